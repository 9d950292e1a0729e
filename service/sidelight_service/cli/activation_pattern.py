"""``sidelight explain activation-pattern``: which classes fire the same neurons at a layer."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.arrays import read_array, read_inputs
from sidelight_service.cli.linearity import check_targets
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
    from sidelight import ActivationPatternExplanation


class Pooling(StrEnum):
    """How the positions of a channel become one unit."""

    ANY = "any"
    MEAN = "mean"
    POSITION = "position"


class Distance(StrEnum):
    """A distance between two classes' patterns."""

    MEAN_ABSOLUTE = "mean-absolute"
    COSINE = "cosine"
    JACCARD = "jaccard"
    CKA = "cka"


class GroupBy(StrEnum):
    """By which class examples are grouped."""

    LABEL = "label"
    PREDICTION = "prediction"


def activation_pattern(
    model: Annotated[str, typer.Option(help="NAME, NAME:VERSION or NAME@LABEL.")],
    layers: Annotated[str, typer.Option(help="The layers: 'all', or names with commas.")],
    reference: Annotated[str | None, typer.Option(help="The examples: a reference set of the server.")] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", exists=True, dir_okay=False, help="In its place: .npy, or .npz by input name."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="With --input: the class of each row, .npy.")
    ] = None,
    indices: IndicesOption = None,
    classes: ClassesOption = None,
    by_prediction: ByPredictionOption = False,
    sample: SampleOption = None,
    sample_seed: SampleSeedOption = None,
    group_by: Annotated[GroupBy, typer.Option(help="By which class examples are grouped.")] = GroupBy.LABEL,
    threshold: Annotated[float | None, typer.Option(help="A unit fires above this. Default: 0.")] = None,
    quantile: Annotated[
        float | None, typer.Option(help="In its place: above this quantile of the unit's own activations.")
    ] = None,
    pooling: Annotated[
        Pooling | None, typer.Option(help="How positions of a channel become one unit. Default: any.")
    ] = None,
    divisor: Annotated[
        float | None, typer.Option(help="Divide counts by this. Default: by the number of examples of the class.")
    ] = None,
    distance: Annotated[
        list[Distance] | None, typer.Option(help="Between classes. May be repeated. Default: mean-absolute.")
    ] = None,
    specific_units: Annotated[
        int | None, typer.Option(help="The most class-specific units to find per class. Default: 5.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="The output that predictions are taken from. Default: the model's first.")
    ] = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(metavar="R.npz", help="Write every number to this file.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="R.png",
            help="Draw rates, distances and neighbours of each layer to .png or .svg files; their names begin so.",
        ),
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
    """Measure which classes fire the same neurons at layers of a model.

    A class's pattern is the share of its examples for which each unit fires; classes are compared by
    their patterns. The examples are of a reference set with class labels, or of files.
    """
    check_targets(out, plot)
    if wait and not job:
        fail("--wait: goes with --job; without it the command waits anyway", status=USAGE)
    if job and not wait and (out is not None or plot is not None):
        fail("--out and --plot: a job has no result yet; add --wait, or use `sidelight jobs result`", status=USAGE)
    if threshold is not None and quantile is not None:
        fail("--threshold and --quantile exclude each other; give one of them", status=USAGE)
    chosen = selection(reference, indices, classes, sample, sample_seed, by_prediction=by_prediction)
    if (input_ is None) == (chosen is None):
        fail("give the examples: either --reference NAME or --input FILE", status=USAGE)
    if labels is not None and input_ is None:
        fail("--labels goes with --input; a reference set has its own", status=USAGE)
    options: dict[str, Any] = {
        "layers": layers if layers == "all" else [name for name in layers.split(",") if name],
        "labels": None if labels is None else read_array(labels),
        "by_prediction": True if group_by is GroupBy.PREDICTION else None,
        "threshold": threshold,
        "quantile": quantile,
        "pooling": pooling and pooling.value,
        "divisor": divisor,
        "distances": [chosen_distance.value for chosen_distance in distance or ()] or None,
        "specific_units": specific_units,
        "output": output,
        "picture": None if plot is None else plot.suffix.removeprefix("."),
    }
    x: Any = chosen if input_ is None else read_inputs(input_)
    explanation = _measure(server, model, x, options, timeout, job=job, wait=wait, as_json=as_json)
    if explanation is not None:
        write(explanation, as_json=as_json, out=out, plot=plot)


def _measure(
    server: str,
    model: str,
    x: Any,
    options: dict[str, Any],
    timeout: float | None,
    *,
    job: bool,
    wait: bool,
    as_json: bool,
) -> ActivationPatternExplanation | None:
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        if not job:
            return client.activation_pattern(model, x, timeout=timeout, **options)
        submitted = client.submit_activation_pattern(model, x, timeout=timeout, **options)
        if not wait:
            typer.echo(json.dumps({"id": submitted.id, "state": submitted.state}) if as_json else submitted.id)
            return None
        note(f"job {submitted.id}; it goes on if you stop waiting for it")
        with progress_bar(f"activation patterns of {model}") as progress:
            submitted.wait(progress=progress, timeout=timeout)
        result = submitted.result()
    if not isinstance(result, sidelight.ActivationPatternExplanation):
        fail(f"job {submitted.id} came to something else")
    return result


def write(explanation: ActivationPatternExplanation, *, as_json: bool, out: Path | None, plot: Path | None) -> None:
    """Shows a result, and writes the files that are asked for."""
    from sidelight_service.cli.activation_pattern_report import print_patterns, save_pictures

    for warning in explanation.provenance.warnings:
        note(f"Warning {warning.code}: {warning.message}")
    if as_json:
        typer.echo(json.dumps(explanation.as_dict()))
    else:
        print_patterns(explanation)
    try:
        if out is not None:
            explanation.to_npz(out)
        if plot is not None:
            for path in save_pictures(explanation, plot):
                note(f"drawn to {path}")
    except OSError as error:
        fail(f"the result could not be written: {error}")
