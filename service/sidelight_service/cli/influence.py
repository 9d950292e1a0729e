"""``sidelight explain influence``: how predictions move with the mean of each feature of the rows of a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.arrays import read_array
from sidelight_service.cli.explaining import Asking
from sidelight_service.cli.options import ConfidenceOption, JobOption, OutOption, WaitOption
from sidelight_service.cli.results import check_files, drawing, show
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
    from sidelight import InfluenceExplanation


class MetricChoice(StrEnum):
    """A metric of performance."""

    ACCURACY = "accuracy"
    LOG_LOSS = "log-loss"
    BRIER = "brier"
    PRECISION = "precision"
    RECALL = "recall"
    F1 = "f1"
    AUC = "auc"
    SQUARED_ERROR = "squared-error"
    ABSOLUTE_ERROR = "absolute-error"


class Unattainable(StrEnum):
    """What happens where a target can not be reached."""

    BOUNDARY = "boundary"
    MISSING = "missing"
    ERROR = "error"


_PLOT = "R.png"
_ARRAY = ".npy or .npz of one array"


def influence(
    model: Annotated[
        str | None, typer.Option(help="NAME, NAME:VERSION or NAME@LABEL. Not needed with --predictions.")
    ] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", exists=True, dir_okay=False, help=f"The examples: {_ARRAY}, first axis counting them."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="In place of --input: examples of this reference set of the server.")
    ] = None,
    indices: IndicesOption = None,
    classes: ClassesOption = None,
    by_prediction: ByPredictionOption = False,
    sample: SampleOption = None,
    sample_seed: SampleSeedOption = None,
    labels: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Of the examples, for metrics. Default: those of --reference."),
    ] = None,
    metric: Annotated[
        list[MetricChoice] | None, typer.Option(help="Measure this beside mean predictions; may be given again.")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A whole number for each example: metrics by group too."),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="In place of the model's, one row per example.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="The output to explain. Default: the model's first.")] = None,
    taus: Annotated[
        str | None,
        typer.Option(
            metavar="T,U,... | N", help="Where means move, -1 to 1; or how many, evenly spaced. Default: -1,1"
        ),
    ] = None,
    targets: Annotated[
        str | None, typer.Option(metavar="T,U,...", help="In place of --taus: means in the feature's own unit.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="I,J,...", help="Flat positions in an example. Default: all.")
    ] = None,
    feature_names: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Names of all features, in flat order.")
    ] = None,
    quantiles: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="What taus -1 and 1 stand for. Default: 0.05,0.95")
    ] = None,
    unattainable: Annotated[
        Unattainable | None, typer.Option(help="What happens where a target is out of reach. Default: boundary.")
    ] = None,
    confidence: ConfidenceOption = None,
    ethik_compatible: Annotated[
        bool, typer.Option("--ethik-compatible", help="Stop where ethik 0.0.4 stops, in place of solving exactly.")
    ] = False,
    as_json: JsonOption = False,
    out: OutOption = None,
    csv: Annotated[Path | None, typer.Option(metavar="R.csv", help="Write a table to this file.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar=_PLOT, help="Draw a map per label to this .png or .svg file; no images: the ranking."),
    ] = None,
    plot_curves: Annotated[
        Path | None, typer.Option(metavar=_PLOT, help="Draw the curves of the features that move most.")
    ] = None,
    plot_ranking: Annotated[
        Path | None, typer.Option(metavar=_PLOT, help="Draw the features that move most, as bars.")
    ] = None,
    job: JobOption = False,
    wait: WaitOption = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Tell how mean predictions, or metrics, change when the mean of each feature moves.

    The examples are reweighted as little as possible so that the feature's mean reaches its target.
    """
    asking = Asking(server=server, timeout=timeout, job=job, wait=wait, as_json=as_json)
    check_files(
        {"--out": out, "--csv": csv}, {"--plot": plot, "--plot-curves": plot_curves, "--plot-ranking": plot_ranking}
    )
    asking.check()
    if job and not wait and any(path is not None for path in (out, csv, plot, plot_curves, plot_ranking)):
        fail("a job has no result to write yet; add --wait, or use `sidelight jobs result`", status=USAGE)
    chosen = selection(reference, indices, classes, sample, sample_seed, by_prediction=by_prediction)
    if (input_ is None) == (chosen is None):
        fail("give the examples: either --input FILE or --reference NAME", status=USAGE)
    if model is None and predictions is None:
        fail("give --model NAME, or --predictions FILE", status=USAGE)
    options: dict[str, Any] = {
        "model": model,
        "x": None if input_ is None else read_array(input_),
        "reference": chosen,
        "labels": None if labels is None else read_array(labels),
        "groups": None if groups is None else read_array(groups),
        "predictions": None if predictions is None else read_array(predictions),
        "output": output,
        "metrics": [choice.value for choice in metric or ()] or None,
        "taus": None if taus is None else _taus(taus),
        "targets": None if targets is None else _numbers("--targets", targets),
        "features": None if features is None else _numbers("--features", features),
        "feature_names": None if feature_names is None else feature_names.split(","),
        "quantiles": None if quantiles is None else _numbers("--quantiles", quantiles),
        "unattainable": unattainable and unattainable.value,
        "confidence": confidence,
        "ethik_compatible": True if ethik_compatible else None,
        "timeout": timeout,
    }
    import sidelight

    explanation = asking.explain(
        sidelight.InfluenceExplanation,
        "influence",
        lambda client, _: client.influence(**options),
        lambda client: client.submit_influence(**options),
        counted=False,
    )
    if explanation is not None:
        write(
            explanation, as_json=as_json, out=out, csv=csv, plot=plot, plot_curves=plot_curves,
            plot_ranking=plot_ranking,
        )  # fmt: skip


def write(
    explanation: InfluenceExplanation,
    *,
    as_json: bool,
    out: Path | None,
    csv: Path | None = None,
    plot: Path | None,
    plot_curves: Path | None = None,
    plot_ranking: Path | None = None,
) -> None:
    """Shows a result, and writes the files that are asked for."""
    from sidelight_service.cli.influence_report import draw_curves, draw_main, draw_ranking, print_table

    show(
        explanation,
        print_table,
        as_json=as_json,
        files=[
            (out, explanation.to_npz),
            (csv, explanation.to_csv),
            (plot, drawing(draw_main, explanation)),
            (plot_curves, drawing(draw_curves, explanation)),
            (plot_ranking, drawing(draw_ranking, explanation)),
        ],
    )


def _taus(text: str) -> list[float]:
    """Reads ``-1,0,1``, or ``41`` for so many evenly spaced from -1 to 1."""
    if text.isascii() and text.isdecimal() and int(text) > 1:
        count = int(text)
        return [-1 + 2 * place / (count - 1) for place in range(count)]
    return _numbers("--taus", text)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option}: {text!r} is no list of numbers; write them with commas between", status=USAGE)
