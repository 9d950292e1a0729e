"""``sidelight explain linearity``: how linear a model is around the rows of a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.arrays import parse_range, read_array, read_inputs
from sidelight_service.cli.explaining import Asking
from sidelight_service.cli.options import (
    ConfidenceOption,
    JobOption,
    ModelOption,
    OutOption,
    RowsOfReferenceOption,
    RowsOption,
    WaitOption,
    check_exclusive,
    parse_layers,
)
from sidelight_service.cli.results import check_files, drawing, show
from sidelight_service.cli.selection import (
    ByPredictionOption,
    ClassesOption,
    IndicesOption,
    SampleOption,
    SampleSeedOption,
    selection,
)
from sidelight_service.cli.terminal import DEFAULT_SERVER, USAGE, JsonOption, ServerOption, TimeoutOption, fail, note

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


def linearity(
    model: ModelOption,
    input_: RowsOption = None,
    reference: RowsOfReferenceOption = None,
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
    confidence: ConfidenceOption = None,
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
    out: OutOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="R.png", help="Draw the layers to this .png or .svg file.")
    ] = None,
    job: JobOption = False,
    wait: WaitOption = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Measure how linear a model is around each row of a file, at its output and at inner layers.

    0 is perfectly linear. If neither a range nor neighbours are given, the range of each feature is
    taken from the input itself, or from the whole reference set.
    """
    asking = Asking(server=server, timeout=timeout, job=job, wait=wait, as_json=as_json)
    check_files({"--out": out}, {"--plot": plot})
    asking.check(out, plot)
    check_exclusive({"--range-data": range_data, "--range-reference": range_reference})
    check_exclusive({"--neighbours": neighbours, "--neighbours-reference": neighbours_reference})
    chosen = selection(reference, indices, classes, sample, sample_seed, by_prediction=by_prediction)
    if (input_ is None) == (chosen is None):
        fail("give the rows to explain: either --input FILE or --reference NAME", status=USAGE)
    options: dict[str, Any] = {
        "layers": parse_layers(layers),
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
    import sidelight

    explanation = asking.explain(
        sidelight.LinearityExplanation,
        f"linearity of {model}",
        lambda client, progress: client.linearity(model, x, progress=progress, timeout=timeout, **options),
        lambda client: client.submit_linearity(model, x, timeout=timeout, **options),
    )
    if explanation is not None:
        write(explanation, as_json=as_json, out=out, plot=plot)


def _rows(path: Path | None, reference: str | None) -> NDArray[Any] | ReferenceSelection | None:
    """The rows of a file, or all of a reference set; None where neither is given."""
    return selection(reference) if path is None else read_array(path)


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


def write(explanation: LinearityExplanation, *, as_json: bool, out: Path | None, plot: Path | None) -> None:
    """Shows a result, and writes the files that are asked for."""
    from sidelight_service.cli.linearity_report import draw, print_table

    files = [(out, explanation.to_npz), (plot, drawing(draw, explanation))]
    show(explanation, print_table, as_json=as_json, files=files)
