"""``sidelight explain lrp``: which inputs carried the evidence for the rows of a file."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.arrays import parse_range, read_array, read_inputs
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


_PICTURES = {"--plot": "relevance", "--plot-ledger": "relevance-ledger"}


def lrp(
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
    out: Annotated[Path | None, typer.Option(metavar="R.npz", help="Write every number to this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="R.png", help="Draw heatmaps beside the inputs to this .png or .svg file.")
    ] = None,
    plot_ledger: Annotated[
        Path | None, typer.Option(metavar="L.png", help="Draw where relevance went to this .png or .svg file.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Draw light on dark.")] = False,
    job: Annotated[
        bool, typer.Option("--job", help="Have the server do it as a job: print its id and return at once.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="With --job: follow the job to its end and show the result.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Find which inputs carried the evidence for each row of a file: LRP, or a gradient method.

    Every explanation comes with a ledger: where relevance went that did not reach the inputs.
    """
    _check_files(out, plot, plot_ledger)
    if wait and not job:
        fail("--wait: goes with --job; without it the command waits anyway", status=USAGE)
    if job and not wait and (out is not None or plot is not None or plot_ledger is not None):
        fail("--out and --plot: a job has no result yet; add --wait, or use `sidelight jobs result`", status=USAGE)
    chosen = selection(reference, indices, classes, sample, sample_seed, by_prediction=by_prediction)
    if (input_ is None) == (chosen is None):
        fail("give the rows to explain: either --input FILE or --reference NAME", status=USAGE)
    _check_exclusive({"--preset": preset, "--rule": rule, "--rules": rules, "--gradient": gradient})
    _check_exclusive({"--target": target, "--target-per-row": target_per_row, "--relevance": relevance})
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
        "layers": layers if layers is None or layers == "all" else [name for name in layers.split(",") if name],
        "empty_branch": empty_branch and empty_branch.value,
        "fallback": fallback and fallback.value,
        "attention": attention and attention.value,
        "pixel_flipping_steps": pixel_flipping,
        "random_logit": True if random_logit else None,
        "seed": seed,
        "picture": _picture_format(plot, plot_ledger),
        "picture_dark": True if dark and (plot or plot_ledger) else None,
    }
    x: Any = chosen if input_ is None else read_inputs(input_)
    if job and not wait:
        _submit(server, model, x, options, timeout, as_json=as_json)
        return
    explained = (_explain_as_job if job else _explain)(server, model, x, options, timeout)
    write(explained, as_json=as_json, out=out, plot=plot, plot_ledger=plot_ledger)


def _explain(server: str, model: str, x: Any, options: dict[str, Any], timeout: float | None) -> LrpExplanation:
    import sidelight

    with failures_reported(), sidelight.connect(server) as client, progress_bar(f"relevance in {model}") as progress:
        return client.lrp(model, x, progress=progress, timeout=timeout, **options)


def _submit(server: str, model: str, x: Any, options: dict[str, Any], timeout: float | None, *, as_json: bool) -> None:
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        job = client.submit_lrp(model, x, timeout=timeout, **options)
    typer.echo(json.dumps({"id": job.id, "state": job.state}) if as_json else job.id)


def _explain_as_job(server: str, model: str, x: Any, options: dict[str, Any], timeout: float | None) -> LrpExplanation:
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        job = client.submit_lrp(model, x, timeout=timeout, **options)
        note(f"job {job.id}; it goes on if you stop waiting for it")
        with progress_bar(f"relevance in {model}") as progress:
            job.wait(progress=progress, timeout=timeout)
        result = job.result()
    if not isinstance(result, sidelight.LrpExplanation):
        fail(f"job {job.id} came to something else than relevance; look at it with `sidelight jobs show`")
    return result


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


def _check_exclusive(given: dict[str, object]) -> None:
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        fail(f"{' and '.join(named)} exclude each other; give one of them", status=USAGE)


def _check_files(out: Path | None, plot: Path | None, plot_ledger: Path | None) -> None:
    check_targets(out, plot)
    if plot_ledger is not None:
        if not plot_ledger.parent.is_dir():
            fail(f"--plot-ledger: there is no directory {plot_ledger.parent}; make it first", status=USAGE)
        if plot_ledger.suffix not in {".png", ".svg"}:
            fail(f"--plot-ledger: {plot_ledger} ends neither in .png nor in .svg; name the file so", status=USAGE)
        if plot is not None and plot.suffix != plot_ledger.suffix:
            fail("--plot and --plot-ledger: the server draws both in one format; name both .png or .svg", status=USAGE)


def _picture_format(*paths: Path | None) -> str | None:
    return next((path.suffix.removeprefix(".") for path in paths if path is not None), None)


def write(
    explanation: LrpExplanation, *, as_json: bool, out: Path | None, plot: Path | None, plot_ledger: Path | None = None
) -> None:
    """Shows a result, and writes the files that are asked for."""
    from sidelight_service.cli.lrp_report import print_report

    for warning in explanation.provenance.warnings:
        note(f"Warning {warning.code}: {warning.message}")
    if as_json:
        typer.echo(json.dumps(explanation.as_dict()))
    else:
        print_report(explanation)
    try:
        if out is not None:
            explanation.to_npz(out)
        for option, path in (("--plot", plot), ("--plot-ledger", plot_ledger)):
            if path is not None:
                _write_picture(explanation, option, path)
    except OSError as error:
        fail(f"the result could not be written: {error}")


def _write_picture(explanation: LrpExplanation, option: str, path: Path) -> None:
    wanted = [picture for picture in explanation.pictures if picture.name == _PICTURES[option]]
    if not wanted or wanted[0].format != path.suffix.removeprefix("."):
        fail(f"{option}: the result has no such picture as {path.suffix[1:]}; ask for it when you create the job")
    path.write_bytes(wanted[0].data)
    # A model with several inputs has a picture of each.
    for number, picture in enumerate(wanted[1:], start=2):
        path.with_stem(f"{path.stem}-{number}").write_bytes(picture.data)
