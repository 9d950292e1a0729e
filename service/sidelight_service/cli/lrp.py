"""``sidelight explain lrp``: which inputs carried the evidence for the rows of a file."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.arrays import parse_range, read_array, read_inputs
from sidelight_service.cli.explaining import Asking
from sidelight_service.cli.options import (
    JobOption,
    ModelOption,
    OutOption,
    RowsOfReferenceOption,
    RowsOption,
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
from sidelight_service.cli.terminal import (
    DEFAULT_SERVER,
    USAGE,
    JsonOption,
    ServerOption,
    TimeoutOption,
    fail,
    failures_reported,
)

if TYPE_CHECKING:
    from sidelight import LrpExplanation


class Start(StrEnum):
    """What relevance starts as."""

    LOGIT = "logit"
    ONE = "one"
    MARGIN = "margin"


class EmptyBranch(StrEnum):
    """What becomes of relevance that meets no contribution."""

    REPORT = "report"
    RENORMALISE = "renormalise"


class Fallback(StrEnum):
    """What becomes of operations without an entry."""

    ERROR = "error"
    GRADIENT = "gradient"


class Attention(StrEnum):
    """How the products in attention are treated."""

    ATTN_LRP = "attn-lrp"
    CP_LRP = "cp-lrp"


def lrp(
    model: ModelOption,
    input_: RowsOption = None,
    reference: RowsOfReferenceOption = None,
    indices: IndicesOption = None,
    classes: ClassesOption = None,
    by_prediction: ByPredictionOption = False,
    sample: SampleOption = None,
    sample_seed: SampleSeedOption = None,
    preset: Annotated[
        str | None, typer.Option(help="A published preset, such as EpsilonPlusFlat. Default: EpsilonPlus.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="One rule everywhere: epsilon, or alpha-beta,alpha=2,beta=1,ignore-bias."),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Of --rule alpha-beta. Default: 2.")] = None,
    beta: Annotated[float | None, typer.Option(help="Of --rule alpha-beta. Default: alpha - 1.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Of --rule gamma. Default: 0.25.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Of --rule: the stabiliser. Default: 1e-06.")] = None,
    rules: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A JSON list of rules that say which layers they are for."),
    ] = None,
    gradient: Annotated[
        str | None, typer.Option(help="In place of LRP: gradient, integrated-gradients, smooth-grad, ...")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Points of integrated gradients and SmoothGrad. Default: 64.")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="SmoothGrad's noise, as a share of each input's range. Default: 0.1.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Where integrated gradients start: one instance. Default: 0."),
    ] = None,
    input_range: Annotated[
        str | None, typer.Option(metavar="MIN,MAX", help="The range of inputs, for rules with a z-box.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="C,D,...", help="The classes to explain. Default: each row's largest logit.")
    ] = None,
    target_per_row: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="One class per row: .npy of whole numbers.")
    ] = None,
    relevance: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The relevance to start from: .npy.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="The output to explain. Default: the model's first.")] = None,
    value: Annotated[Start | None, typer.Option(help="What relevance starts as. Default: logit.")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers to return relevance at too: 'all', or names with commas.")
    ] = None,
    empty_branch: Annotated[
        EmptyBranch | None, typer.Option(help="What becomes of relevance that meets no contribution. Default: report.")
    ] = None,
    fallback: Annotated[
        Fallback | None, typer.Option(help="What becomes of operations without a rule. Default: error.")
    ] = None,
    attention: Annotated[
        Attention | None, typer.Option(help="How products in attention are treated. Default: attn-lrp.")
    ] = None,
    pixel_flipping: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Add the area under the pixel-flipping curve.")
    ] = None,
    random_logit: Annotated[
        bool, typer.Option("--random-logit", help="Add the similarity to a random other class's explanation.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of whatever is random. Default: 0.")] = None,
    as_json: JsonOption = False,
    out: OutOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="R.png", help="Draw heatmaps beside the inputs to this .png or .svg file.")
    ] = None,
    plot_ledger: Annotated[
        Path | None, typer.Option(metavar="L.png", help="Draw where relevance went to this .png or .svg file.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Draw light on dark.")] = False,
    job: JobOption = False,
    wait: WaitOption = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Find which inputs carried the evidence for each row of a file: LRP, or a gradient method.

    Every explanation comes with a ledger: where relevance went that did not reach the inputs.
    """
    asking = Asking(server=server, timeout=timeout, job=job, wait=wait, as_json=as_json)
    check_files({"--out": out}, {"--plot": plot, "--plot-ledger": plot_ledger})
    if plot is not None and plot_ledger is not None and plot.suffix != plot_ledger.suffix:
        fail("--plot and --plot-ledger: the server draws both in one format; name both .png or .svg", status=USAGE)
    asking.check(out, plot, plot_ledger)
    chosen = selection(reference, indices, classes, sample, sample_seed, by_prediction=by_prediction)
    if (input_ is None) == (chosen is None):
        fail("give the rows to explain: either --input FILE or --reference NAME", status=USAGE)
    check_exclusive({"--preset": preset, "--rule": rule, "--rules": rules, "--gradient": gradient})
    check_exclusive({"--target": target, "--target-per-row": target_per_row, "--relevance": relevance})
    if gradient is not None and plot_ledger is not None:
        fail("--plot-ledger: gradient methods keep no ledger; leave it out", status=USAGE)
    options: dict[str, Any] = {
        "preset": preset,
        "rules": _rules(rule, rules, {"alpha": alpha, "beta": beta, "gamma": gamma, "epsilon": epsilon}),
        "gradient": gradient,
        "samples": samples,
        "noise": noise,
        "baseline": None if baseline is None else read_array(baseline),
        "input_range": None if input_range is None else parse_range(input_range),
        "classes": None if target is None else _classes(target),
        "class_per_instance": None if target_per_row is None else read_array(target_per_row),
        "relevance": None if relevance is None else read_array(relevance),
        "output": output,
        "value": value and value.value,
        "layers": parse_layers(layers),
        "empty_branch": empty_branch and empty_branch.value,
        "fallback": fallback and fallback.value,
        "attention": attention and attention.value,
        "pixel_flipping_steps": pixel_flipping,
        "random_logit": True if random_logit else None,
        "seed": seed,
        "picture": picture_format(plot, plot_ledger),
        "picture_dark": True if dark and (plot or plot_ledger) else None,
    }
    x: Any = chosen if input_ is None else read_inputs(input_)
    import sidelight

    explanation = asking.explain(
        sidelight.LrpExplanation,
        f"relevance in {model}",
        lambda client, progress: client.lrp(model, x, progress=progress, timeout=timeout, **options),
        lambda client: client.submit_lrp(model, x, timeout=timeout, **options),
    )
    if explanation is not None:
        write(explanation, as_json=as_json, out=out, plot=plot, plot_ledger=plot_ledger)


def _rules(rule: str | None, rules: Path | None, numbers: dict[str, float | None]) -> Any:
    from sidelight.lrp_rules import parse_rule

    given = {name: number for name, number in numbers.items() if number is not None}
    if rule is not None:
        with failures_reported():
            option = parse_rule(rule)
        twice = [name for name in given if name in option]
        if twice:
            fail(f"--{twice[0]}: --rule {rule} says it already; give it once", status=USAGE)
        return option | given
    if given:
        fail(f"--{next(iter(given))}: goes with --rule, such as --rule alpha-beta", status=USAGE)
    if rules is None:
        return None
    try:
        return json.loads(rules.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"--rules: {rules} can not be read as JSON: {error}", status=USAGE)


def _classes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        fail(f"--target: {text!r} is no list of classes; write whole numbers with commas between", status=USAGE)


def write(
    explanation: LrpExplanation, *, as_json: bool, out: Path | None, plot: Path | None, plot_ledger: Path | None = None
) -> None:
    """Shows a result, and writes the files that are asked for."""
    from sidelight_service.cli.lrp_report import print_report

    show(
        explanation,
        print_report,
        as_json=as_json,
        files=[
            (out, explanation.to_npz),
            (plot, lambda path: _write_picture(explanation, "--plot", "relevance", path)),
            (plot_ledger, lambda path: _write_picture(explanation, "--plot-ledger", "relevance-ledger", path)),
        ],
    )


def _write_picture(explanation: LrpExplanation, option: str, name: str, path: Path) -> None:
    wanted = [picture for picture in explanation.pictures if picture.name == name]
    if not wanted or wanted[0].format != path.suffix.removeprefix("."):
        fail(f"{option}: the result has no such picture as {path.suffix[1:]}; ask for it when you create the job")
    path.write_bytes(wanted[0].data)
    # A model with several inputs has a picture of each.
    for number, picture in enumerate(wanted[1:], start=2):
        path.with_stem(f"{path.stem}-{number}").write_bytes(picture.data)
