"""``sidelight explain similarity``: which reference examples a model treats like the rows of a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.arrays import read_array, read_inputs
from sidelight_service.cli.explaining import Asking
from sidelight_service.cli.options import JobOption, ModelOption, OutOption, WaitOption
from sidelight_service.cli.results import check_files, picture_format, show
from sidelight_service.cli.selection import (
    ByPredictionOption,
    ClassesOption,
    IndicesOption,
    SampleOption,
    SampleSeedOption,
    selection,
)
from sidelight_service.cli.terminal import DEFAULT_SERVER, USAGE, JsonOption, ServerOption, TimeoutOption, fail

if TYPE_CHECKING:
    from sidelight import SimilarityExplanation

STRIP = "similarity-strip"
MEANS = "similarity-class-means"


class Function(StrEnum):
    """How two gradients are scored."""

    COS = "cos"
    DOT = "dot"
    ASYM_DOT = "asym-dot"
    RELATIF = "relatif"


class Loss(StrEnum):
    """The loss whose gradient is taken."""

    CATEGORICAL = "categorical-cross-entropy"
    CATEGORICAL_LOGITS = "categorical-cross-entropy-from-logits"
    BINARY = "binary-cross-entropy"
    BINARY_LOGITS = "binary-cross-entropy-from-logits"
    SQUARED = "squared-error"
    ABSOLUTE = "absolute-error"
    HUBER = "huber"


LossOption = Annotated[
    Loss | None, typer.Option("--loss", help="Whose gradient is taken. Default: by the model's head.")
]
OutputOption = Annotated[
    str | None, typer.Option("--output", help="The output that the loss reads. Default: the model's first.")
]


def similarity(
    model: ModelOption,
    reference: Annotated[str, typer.Option(help="The reference set of the server to search.")],
    input_: Annotated[
        Path,
        typer.Option("--input", exists=True, dir_okay=False, help="The rows to explain: .npy, or .npz by input name."),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Their labels: .npy. Default: what the model predicts."),
    ] = None,
    indices: IndicesOption = None,
    classes: ClassesOption = None,
    by_prediction: ByPredictionOption = False,
    sample: SampleOption = None,
    sample_seed: SampleSeedOption = None,
    function: Annotated[Function | None, typer.Option(help="The score. Default: cos.")] = None,
    loss: LossOption = None,
    output: OutputOption = None,
    layers: Annotated[
        str | None, typer.Option(help="Only the parameters of these layers count: names with commas. Default: all.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=0, help="How many of the most similar. Default: 5.")] = None,
    bottom: Annotated[int | None, typer.Option(min=0, help="How many of the least similar. Default: 0.")] = None,
    all_scores: Annotated[bool, typer.Option("--all-scores", help="Also every score; for --json and --out.")] = False,
    layer_contributions: Annotated[
        bool, typer.Option("--layer-contributions", help="Also what each layer contributes; for --json and --out.")
    ] = False,
    class_means: Annotated[bool, typer.Option("--class-means", help="Also the mean score by class.")] = False,
    aggregate: Annotated[
        bool, typer.Option("--aggregate", help="Add the gradients of all rows up, and rank once for them.")
    ] = False,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=WEIGHT", help="Add the scores of this model version, weighted. May be repeated."),
    ] = None,
    norm_offset: Annotated[
        float | None, typer.Option(min=0, help="What is added to denominators; alibi adds 1e-7. Default: 0.")
    ] = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="R.png", help="Draw rows and references like them to this .png or .svg file.")
    ] = None,
    plot_means: Annotated[
        Path | None, typer.Option(metavar="R.png", help="Draw mean scores by class to this .png or .svg file.")
    ] = None,
    job: JobOption = False,
    wait: WaitOption = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Find the examples of a reference set that a model treats like each row of a file.

    Two examples are alike if the gradients of the loss by the model's parameters are. Many references need a
    gradient index: `sidelight index build` makes one.
    """
    asking = Asking(server=server, timeout=timeout, job=job, wait=wait, as_json=as_json)
    check_pictures(out, plot, plot_means)
    asking.check(out, plot, plot_means)
    x = read_inputs(input_)
    options: dict[str, Any] = {
        "reference": selection(reference, indices, classes, sample, sample_seed, by_prediction=by_prediction),
        "labels": None if labels is None else read_array(labels),
        "function": function and function.value,
        "loss": loss and loss.value,
        "output": output,
        "layers": None if layers is None else [name for name in layers.split(",") if name],
        "top": top,
        "bottom": bottom,
        "all_scores": all_scores or None,
        "layer_contributions": layer_contributions or None,
        "class_means": class_means or None,
        "aggregate": aggregate or None,
        "checkpoints": None if not checkpoint else [_checkpoint(text) for text in checkpoint],
        "norm_offset": norm_offset,
        "picture": picture_format(plot, plot_means),
    }
    import sidelight

    explanation = asking.explain(
        sidelight.SimilarityExplanation,
        f"similarity of {model}",
        lambda client, progress: client.similarity(model, x, progress=progress, timeout=timeout, **options),
        lambda client: client.submit_similarity(model, x, timeout=timeout, **options),
    )
    if explanation is not None:
        write(explanation, as_json=as_json, out=out, plot=plot, plot_means=plot_means)


def check_pictures(out: Path | None, plot: Path | None, plot_means: Path | None) -> None:
    """Refuses what could not be written before the work is done rather than after."""
    check_files({"--out": out}, {"--plot": plot, "--plot-means": plot_means})
    if plot is not None and plot_means is not None and plot.suffix != plot_means.suffix:
        fail("--plot and --plot-means: both come in one format; end both in .png, or both in .svg", status=USAGE)


def write(
    explanation: SimilarityExplanation, *, as_json: bool, out: Path | None, plot: Path | None, plot_means: Path | None
) -> None:
    """Shows a result, and writes the files that are asked for."""
    from sidelight_service.cli.similarity_report import print_table

    show(
        explanation,
        print_table,
        as_json=as_json,
        files=[
            (out, explanation.to_npz),
            (plot, lambda path: _write_picture(explanation, "--plot", STRIP, path)),
            (plot_means, lambda path: _write_picture(explanation, "--plot-means", MEANS, path)),
        ],
    )


def _write_picture(explanation: SimilarityExplanation, option: str, name: str, path: Path) -> None:
    drawn = {picture.name: picture for picture in explanation.pictures}
    if name in drawn and drawn[name].format != path.suffix.removeprefix("."):
        fail(f"{option}: the picture was drawn as .{drawn[name].format}; name the file so", status=USAGE)
    if name not in drawn:
        why = "there are no classes" if drawn and name == MEANS else "none was asked for when the work was"
        fail(f"{option}: the result has no such picture, because {why}")
    path.write_bytes(drawn[name].data)


def _checkpoint(text: str) -> tuple[str, float]:
    model, found, weight = text.rpartition("=")
    try:
        if not (found and model):
            raise ValueError
        return model, float(weight)
    except ValueError:
        fail(f"--checkpoint: {text!r} is not MODEL=WEIGHT; write it like digits:2=0.1", status=USAGE)
