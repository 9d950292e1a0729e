"""``sidelight explain activation-pattern``: which classes fire the same neurons at a layer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.arrays import read_array, read_inputs
from sidelight_service.cli.explaining import Asking
from sidelight_service.cli.options import (
    JobOption,
    ModelOption,
    OutOption,
    WaitOption,
    check_exclusive,
    parse_layers,
)
from sidelight_service.cli.results import check_files, picture_format, show
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
    model: ModelOption,
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
    out: OutOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="R.png",
            help="Draw rates, distances and neighbours of each layer to .png or .svg files; their names begin so.",
        ),
    ] = None,
    job: JobOption = False,
    wait: WaitOption = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Measure which classes fire the same neurons at layers of a model.

    A class's pattern is the share of its examples for which each unit fires; classes are compared by
    their patterns. The examples are of a reference set with class labels, or of files.
    """
    asking = Asking(server=server, timeout=timeout, job=job, wait=wait, as_json=as_json)
    check_files({"--out": out}, {"--plot": plot})
    asking.check(out, plot)
    check_exclusive({"--threshold": threshold, "--quantile": quantile})
    chosen = selection(reference, indices, classes, sample, sample_seed, by_prediction=by_prediction)
    if (input_ is None) == (chosen is None):
        fail("give the examples: either --reference NAME or --input FILE", status=USAGE)
    if labels is not None and input_ is None:
        fail("--labels goes with --input; a reference set has its own", status=USAGE)
    options: dict[str, Any] = {
        "layers": parse_layers(layers),
        "labels": None if labels is None else read_array(labels),
        "by_prediction": True if group_by is GroupBy.PREDICTION else None,
        "threshold": threshold,
        "quantile": quantile,
        "pooling": pooling and pooling.value,
        "divisor": divisor,
        "distances": [chosen_distance.value for chosen_distance in distance or ()] or None,
        "specific_units": specific_units,
        "output": output,
        "picture": picture_format(plot),
    }
    x: Any = chosen if input_ is None else read_inputs(input_)
    import sidelight

    explanation = asking.explain(
        sidelight.ActivationPatternExplanation,
        f"activation patterns of {model}",
        lambda client, _: client.activation_pattern(model, x, timeout=timeout, **options),
        lambda client: client.submit_activation_pattern(model, x, timeout=timeout, **options),
        counted=False,
    )
    if explanation is not None:
        write(explanation, as_json=as_json, out=out, plot=plot)


def write(explanation: ActivationPatternExplanation, *, as_json: bool, out: Path | None, plot: Path | None) -> None:
    """Shows a result, and writes the files that are asked for."""
    from sidelight_service.cli.activation_pattern_report import print_patterns, save_pictures

    def draw(path: Path) -> None:
        for drawn in save_pictures(explanation, path):
            note(f"drawn to {drawn}")

    show(explanation, print_patterns, as_json=as_json, files=[(out, explanation.to_npz), (plot, draw)])
