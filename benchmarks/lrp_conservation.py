"""How far relevance is conserved, rule by rule, on the network of the published complaint about alpha-beta.

    python -m benchmarks.lrp_conservation --innvestigate-python P --zennit-python Q [--images digits.npz]

Writes `docs/lrp-conservation.md`, which names the complaint. Its network is two convolutions of 32 filters and two
dense layers over 28 x 28 pixels, trained here; its figure is the largest |sum R - f| / |f| over images, of the class
with the largest logit f.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.lrp import (
    AlphaBeta,
    EmptyBranchPolicy,
    Epsilon,
    Flat,
    Gamma,
    LayerPosition,
    LrpParameters,
    LrpPreset,
    LrpResult,
    MatchPosition,
    RuleEntry,
    RuleMap,
    WSquare,
    ZBox,
    propagate_relevance,
)
from sidelight_engines.model import Model, open_model

from benchmarks.harness import Reference, machine
from benchmarks.lrp_network import load_digits, train

_HERE = Path(__file__).parent
_PAGE = _HERE.parent / "docs" / "lrp-conservation.md"
_IMAGES = 64


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the rule.
        library: whose.
        ours: what says the same here.
        analyzer: iNNvestigate's, or zennit's rule.
        arguments: of it.
        unbiased: whether on the network without biases.
        box: whether inputs lie from 0 to 1 for it.
    """

    name: str
    library: str
    ours: RuleMap | LrpPreset
    analyzer: str
    arguments: dict[str, Any] = field(default_factory=dict)
    unbiased: bool = False
    box: bool = False


def everywhere(rule: Any, *first: RuleEntry) -> RuleMap:
    return RuleMap(first, rule)


ROWS = (
    Row("z (LRP-0)", "iNNvestigate", everywhere(Epsilon(0.0)), "lrp.z"),
    Row("z, no biases", "iNNvestigate", everywhere(Epsilon(0.0)), "lrp.z", unbiased=True),
    Row(
        "epsilon 1, bias ignored",
        "iNNvestigate",
        everywhere(Epsilon(1.0, ignore_bias=True)),
        "lrp.epsilon",
        {"epsilon": 1.0, "bias": False},
    ),
    Row("epsilon 1e-6", "zennit", everywhere(Epsilon(1e-6)), "Epsilon", {"epsilon": 1e-6}),
    Row("epsilon 1e-9", "captum", everywhere(Epsilon(1e-9)), "captum.Epsilon", {"epsilon": 1e-9}),
    Row("gamma 0.25", "zennit", everywhere(Gamma(0.25)), "Gamma", {"gamma": 0.25}),
    Row(
        "alpha 2 beta 1, bias ignored",
        "iNNvestigate",
        everywhere(AlphaBeta(2.0, 1.0, 0.0, ignore_bias=True)),
        "lrp.alpha_2_beta_1_IB",
    ),
    Row("alpha 2 beta 1", "iNNvestigate", everywhere(AlphaBeta(2.0, 1.0, 0.0)), "lrp.alpha_2_beta_1"),
    Row("alpha 2 beta 1", "zennit", everywhere(AlphaBeta(2.0, 1.0)), "AlphaBeta", {"alpha": 2.0, "beta": 1.0}),
    Row(
        "alpha 2 beta 1, no biases",
        "iNNvestigate",
        everywhere(AlphaBeta(2.0, 1.0, 0.0)),
        "lrp.alpha_2_beta_1",
        unbiased=True,
    ),
    Row(
        "alpha 1 beta 0, bias ignored",
        "iNNvestigate",
        everywhere(AlphaBeta(1.0, 0.0, 0.0, ignore_bias=True)),
        "lrp.alpha_1_beta_0_IB",
    ),
    Row("alpha 1 beta 0", "iNNvestigate", everywhere(AlphaBeta(1.0, 0.0, 0.0)), "lrp.alpha_1_beta_0"),
    Row("z+", "zennit", everywhere(AlphaBeta(1.0, 0.0)), "ZPlus"),
    Row("w-square", "iNNvestigate", everywhere(WSquare(0.0, ignore_bias=True)), "lrp.w_square"),
    Row("w-square", "zennit", everywhere(WSquare()), "WSquare"),
    Row("flat", "iNNvestigate", everywhere(Flat(0.0)), "lrp.flat"),
    Row("flat", "zennit", everywhere(Flat()), "Flat"),
    Row(
        "z, z-box at the input",
        "iNNvestigate",
        everywhere(Epsilon(0.0), RuleEntry(MatchPosition(LayerPosition.FIRST), ZBox(0.0, 1.0, 0.0))),
        "lrp.z",
        {"input_layer_rule": [0.0, 1.0]},
    ),
    Row("preset A", "iNNvestigate", LrpPreset.SEQUENTIAL_A, "lrp.sequential_preset_a"),
    Row("preset B", "iNNvestigate", LrpPreset.SEQUENTIAL_B, "lrp.sequential_preset_b"),
    Row("deep Taylor", "iNNvestigate", LrpPreset.DEEP_TAYLOR, "deep_taylor"),
    Row(
        "deep Taylor, bounded",
        "iNNvestigate",
        LrpPreset.DEEP_TAYLOR_BOUNDED,
        "deep_taylor.bounded",
        {"low": 0.0, "high": 1.0},
        box=True,
    ),
)


def explain(model: Model, images: np.ndarray[Any, Any], row: Row, policy: EmptyBranchPolicy) -> LrpResult:
    box = {"input_minimum": 0.0, "input_maximum": 1.0} if row.box else {}
    name = model.graph.inputs[0].name
    return propagate_relevance(model, {name: images}, LrpParameters(row.ours, **box, empty_branch=policy))


def error(sums: Any, logits: Any) -> float:
    """The issue's own figure."""
    return float(np.max(np.abs((np.asarray(sums) - logits) / (logits + 1e-9))))


def cells(row: Row, model: Model, images: np.ndarray[Any, Any], reference: dict[str, Any]) -> list[str]:
    report = explain(model, images, row, EmptyBranchPolicy.REPORT)
    renormalised = explain(model, images, row, EmptyBranchPolicy.RENORMALISE)
    logits = np.array([one.logit for one in report.explained])
    total = report.ledger[-1]
    whole = np.abs(total.relevance_out).max(axis=1)

    def share(values: np.ndarray[Any, Any]) -> str:
        return f"{float(np.median(values[:, 0] / whole)):.1%}"

    return [
        row.name,
        row.library,
        _said(error(reference["sums"], logits)),
        _said(error([one.relevance_in for one in report.explained], logits)),
        _said(error([one.relevance_in for one in renormalised.explained], logits)),
        f"{max(max(one.ledger_residual for one in result.explained) for result in (report, renormalised)):.0e}",
        share(total.bias),
        share(total.empty_branch),
        share(total.stabiliser),
    ]


def _said(value: float) -> str:
    return f"{value:.1e}" if value < 1e-3 or value >= 1000 else f"{value:.3g}"


HEAD = (
    "Rule",
    "Reference",
    "its error",
    "our error, `report`",
    "our error, `renormalise`",
    "ledger's residual",
    "bias",
    "empty branches",
    "stabiliser",
)

TEXT = """# How far relevance is conserved

In 2018 a user of iNNvestigate summed up the relevance of a small network and found that
[alpha-beta is not conservative](https://github.com/albermax/innvestigate/issues/116): the sum missed the explained
logit by up to 17 % without biases and 89 % with them. The issue is still open. This is the same measurement, on a
network of the same shape, for every rule: two convolutions of 32 filters with ReLU and max pooling, dense layers of
512 and 10, trained on {data}.

The error is the issue's own, the largest |sum R - f| / |f| over {count} images, where f is the largest logit. Sidelight
computes each rule as the reference does (`report`), and books what is missing: the ledger's residual is what it leaves
unexplained, at most 1e-5 of the relevance by contract. The last columns are the median shares of f that biases, empty
branches and the stabiliser took on the way. With `renormalise`, relevance that meets no contribution of one sign goes
to the other branch, so that nothing falls into empty branches.

{table}

Reading it:

- Where the reference's error and ours under `report` are equal, it is the rule that does not conserve, and the ledger
  says why. A network with biases conserves under no rule that gives biases a share.
- Where they differ, the reference deviates from its own formula: iNNvestigate adds the whole bias to both branches of
  alpha-beta, which makes denominators small or zero.
- Without biases only empty branches and the stabiliser are left; with `renormalise` and no stabiliser the error is
  rounding. Where a network has biases and the rule ignores them, a neuron that fires by its bias alone has no
  contribution of either sign, and its relevance is booked as lost under both.

Made by `python -m benchmarks.lrp_conservation` with iNNvestigate 2.1.2, zennit 0.5.1 and captum 0.8.0, in single
precision, {date}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/lrp-conservation.md.")
    parser.add_argument("--innvestigate-python", type=Path, required=True)
    parser.add_argument("--zennit-python", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="an .npz file with x (n, 28, 28) uint8 and y (n,)")
    parser.add_argument("--folder", type=Path, help="where to keep the trained networks")
    parser.add_argument("--page", type=Path, default=_PAGE)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    x, labels = load_digits(given.images)
    train(folder, x, labels)
    images = np.ascontiguousarray(x[-_IMAGES:])
    np.save(folder / "images.npy", images)
    models = {name: open_model(folder / name, ModelFormat.SAVED_MODEL) for name in ("seed", "seed_unbiased")}
    lines = []
    with (
        Reference(given.innvestigate_python, _HERE / "reference_lrp_innvestigate.py", folder / "inn.log") as inn,
        Reference(given.zennit_python, _HERE / "reference_lrp_zennit.py", folder / "zennit.log") as zennit,
    ):
        for row in ROWS:
            network = "seed_unbiased" if row.unbiased else "seed"
            case = {
                "folder": str(folder),
                "network": network,
                "images": str(folder / "images.npy"),
                "analyzer": row.analyzer,
                "rule": row.analyzer,
                "arguments": row.arguments,
                "batch": _IMAGES,
                "repeat": 1,
            }
            answer = (inn if row.library == "iNNvestigate" else zennit).run(case)
            lines.append(cells(row, models[network], images, answer))
            print(" | ".join(lines[-1]), flush=True)
    table = "\n".join(f"| {' | '.join(line)} |" for line in (HEAD, ["---", "---", *["---:"] * 7], *lines))
    text = TEXT.format(
        table=table,
        count=_IMAGES,
        date=machine()["date"],
        data="MNIST" if given.images else "scikit-learn's digits, drawn larger",
    )
    given.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
