"""``sidelight explain linearity``: how linear a model is around the rows of a file."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.arrays import parse_range, read_array, read_inputs
from sidelight_service.cli.selection import (
    ByPredictionOption,
    ClassesOption,
    IndicesOption,
    SampleOption,
    SampleSeedOption,
    selection,
)
from sidelight_service.cli.terminal import (
    DEFAULT_SERVER,
    USAGE,
    JsonOption,
    ServerOption,
    TimeoutOption,
    fail,
    failures_reported,
    note,
    progress_bar,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sidelight import LinearityExplanation, ReferenceSelection


class Aggregate(StrEnum):
    """How samples are combined."""

    GLOBAL = "global"
    PAIRWISE = "pairwise"


class RuntimeChoice(StrEnum):
    """What evaluates the model."""

    AUTO = "auto"
    ONNX_RUNTIME = "onnx-runtime"
    TENSORFLOW = "tensorflow"


class Draws(StrEnum):
    """What makes random draws."""

    COUNTER = "counter"
    MERSENNE_TWISTER = "mersenne-twister"


class ModelType(StrEnum):
    """What the output holds."""

    CLASSIFIER = "classifier"
    REGRESSOR = "regressor"


class Scale(StrEnum):
    """The scale on which a classifier's output is measured."""

    LOG_PROBABILITY = "log-probability"
    EXACT_LOG_PROBABILITY = "exact-log-probability"


_File = typer.Option(exists=True, dir_okay=False, readable=True)


def linearity(
    model: Annotated[str, typer.Option(help="NAME, NAME:VERSION or NAME@LABEL.")],
    input_: Annotated[
        Path | None,
        typer.Option("--input", exists=True, dir_okay=False, help="The rows to explain: .npy, or .npz by input name."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="In place of --input: explain rows of this reference set of the server.")
    ] = None,
    indices: IndicesOption = None,
    classes: ClassesOption = None,
    by_prediction: ByPredictionOption = False,
    sample: SampleOption = None,
    sample_seed: SampleSeedOption = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers to measure beside the output: 'all', or names with commas.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Samples per row. Default: the server's, 20.")] = None,
    aggregate: Annotated[Aggregate | None, typer.Option(help="How samples are combined. Default: global.")] = None,
    feature_range: Annotated[
        str | None, typer.Option(metavar="MIN,MAX", help="The range of all features, such as 0,1.")
    ] = None,
    range_data: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Rows whose least and greatest values are the feature range."),
    ] = None,
    range_reference: Annotated[
        str | None, typer.Option(help="The same, over all rows of this reference set of the server.")
    ] = None,
    neighbours: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Take the nearest of these rows in place of random samples."),
    ] = None,
    neighbours_reference: Annotated[
        str | None, typer.Option(help="The same, of all rows of this reference set of the server.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Half-width of the neighbourhood, as a share of the range. Default: 0.04.")
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Grid steps in the feature range. Default: 100.")] = None,
    clip: Annotated[bool, typer.Option("--clip", help="Keep samples within the feature range.")] = False,
    confidence: Annotated[
        float | None, typer.Option(help="Add confidence intervals of this level, such as 0.95.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="The output to measure. Default: the model's first.")] = None,
    model_type: Annotated[
        ModelType | None, typer.Option(help="What the output holds. Default: by the model's graph.")
    ] = None,
    classifier_scale: Annotated[
        Scale | None, typer.Option(help="What is measured of a classifier. Default: log-probability.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the random draws. Default: 0.")] = None,
    draws: Annotated[
        Draws | None, typer.Option(help="What makes draws; mersenne-twister as alibi. Default: counter.")
    ] = None,
    runtime: Annotated[RuntimeChoice, typer.Option(help="What evaluates the model.")] = RuntimeChoice.AUTO,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(metavar="R.npz", help="Write every number to this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="R.png", help="Draw the layers to this .png or .svg file.")
    ] = None,
    job: Annotated[
        bool, typer.Option("--job", help="Have the server do it as a job: print its id and return at once.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="With --job: follow the job to its end and show the result.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Measure how linear a model is around each row of a file, at its output and at inner layers.

    0 is perfectly linear. If neither a range nor neighbours are given, the range of each feature is
    taken from the input itself, or from the whole reference set.
    """
    check_targets(out, plot)
    if wait and not job:
        fail("--wait: goes with --job; without it the command waits anyway", status=USAGE)
    if job and not wait and (out is not None or plot is not None):
        fail("--out and --plot: a job has no result yet; add --wait, or use `sidelight jobs result`", status=USAGE)
    _check_exclusive("--range-data", range_data, "--range-reference", range_reference)
    _check_exclusive("--neighbours", neighbours, "--neighbours-reference", neighbours_reference)
    chosen = selection(reference, indices, classes, sample, sample_seed, by_prediction=by_prediction)
    if (input_ is None) == (chosen is None):
        fail("give the rows to explain: either --input FILE or --reference NAME", status=USAGE)
    options: dict[str, Any] = {
        "layers": layers if layers is None or layers == "all" else [name for name in layers.split(",") if name],
        "samples": samples,
        "aggregate": aggregate and aggregate.value,
        "feature_range": None if feature_range is None else parse_range(feature_range),
        "range_data": _rows(range_data, range_reference),
        "neighbours": _rows(neighbours, neighbours_reference),
        "epsilon": epsilon,
        "resolution": resolution,
        "clip": True if clip else None,
        "confidence": confidence,
        "output": output,
        "model_type": model_type and model_type.value,
        "classifier_scale": classifier_scale and classifier_scale.value,
        "seed": seed,
        "draws": draws and draws.value,
        "runtime": None if runtime is RuntimeChoice.AUTO else runtime.value,
    }
    has_range = any(options[way] is not None for way in ("feature_range", "range_data", "neighbours"))
    x: Any = chosen
    if input_ is not None:
        x = read_inputs(input_)
        if not has_range:
            options["range_data"] = _range_of_input(x, input_)
    elif not has_range:
        note(f"No feature range given: taking the least and greatest value of each feature over all of {reference}.")
        options["range_data"] = selection(reference)
    if job and not wait:
        _submit(server, model, x, options, timeout, as_json=as_json)
        return
    measure = _measure_as_job if job else _measure
    explanation = measure(server, model, x, options, timeout)
    write(explanation, as_json=as_json, out=out, plot=plot)


def _measure(server: str, model: str, x: Any, options: dict[str, Any], timeout: float | None) -> LinearityExplanation:
    import sidelight

    with failures_reported(), sidelight.connect(server) as client, progress_bar(f"linearity of {model}") as progress:
        return client.linearity(model, x, progress=progress, timeout=timeout, **options)


def _submit(server: str, model: str, x: Any, options: dict[str, Any], timeout: float | None, *, as_json: bool) -> None:
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        job = client.submit_linearity(model, x, timeout=timeout, **options)
    typer.echo(json.dumps({"id": job.id, "state": job.state}) if as_json else job.id)


def _measure_as_job(
    server: str, model: str, x: Any, options: dict[str, Any], timeout: float | None
) -> LinearityExplanation:
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        job = client.submit_linearity(model, x, timeout=timeout, **options)
        note(f"job {job.id}; it goes on if you stop waiting for it")
        with progress_bar(f"linearity of {model}") as progress:
            job.wait(progress=progress, timeout=timeout)
        result = job.result()
    if not isinstance(result, sidelight.LinearityExplanation):
        fail(f"job {job.id} came to something else than linearity; look at it with `sidelight jobs show`")
    return result


def _rows(path: Path | None, reference: str | None) -> NDArray[Any] | ReferenceSelection | None:
    """The rows of a file, or all of a reference set; None where neither is given."""
    return selection(reference) if path is None else read_array(path)


def _check_exclusive(one: str, first: object, other: str, second: object) -> None:
    if first is not None and second is not None:
        fail(f"{one} and {other} exclude each other; give one of them", status=USAGE)


def _range_of_input(x: NDArray[Any] | dict[str, NDArray[Any]], path: Path) -> NDArray[Any]:
    if isinstance(x, dict):
        fail(f"{path} has several inputs, so no feature range can be taken from it; give --feature-range", status=USAGE)
    if x.ndim == 0 or len(x) < 2:
        fail(
            f"{path} has a single row, so no feature range can be taken from it; give --feature-range MIN,MAX, "
            "--range-data FILE or --neighbours FILE",
            status=USAGE,
        )
    note(
        f"No feature range given: taking the least and greatest value of each feature over the {len(x)} rows of {path}."
    )
    return x


def check_targets(out: Path | None, plot: Path | None, plot_option: str = "--plot") -> None:
    """Refuses what could not be written before the work is done rather than after."""
    for option, path in (("--out", out), (plot_option, plot)):
        if path is not None and not path.parent.is_dir():
            fail(f"{option}: there is no directory {path.parent}; make it first", status=USAGE)
    if plot is not None and plot.suffix not in {".png", ".svg"}:
        fail(f"{plot_option}: {plot} ends neither in .png nor in .svg; name the file so", status=USAGE)


def write(explanation: LinearityExplanation, *, as_json: bool, out: Path | None, plot: Path | None) -> None:
    """Shows a result, and writes the files that are asked for."""
    from sidelight_service.cli.linearity_report import draw, print_table

    for warning in explanation.provenance.warnings:
        note(f"Warning {warning.code}: {warning.message}")
    if as_json:
        typer.echo(json.dumps(explanation.as_dict()))
    else:
        print_table(explanation)
    try:
        if out is not None:
            explanation.to_npz(out)
        if plot is not None:
            plot.write_bytes(draw(explanation, "svg" if plot.suffix == ".svg" else "png").data)
    except OSError as error:
        fail(f"the result could not be written: {error}")
