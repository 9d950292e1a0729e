"""The result of `Client.lrp`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.provenance import Picture, Provenance

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

LEDGER_COLUMNS = ("relevance_out", "relevance_in", "bias", "stabiliser", "empty_branch", "sink")
_QUALITY = (
    "logit",
    "relevance_out",
    "relevance_in",
    "conservation_gap",
    "ledger_residual",
    "sparseness",
    "entropy",
    "pixel_flipping_auc",
    "random_logit_similarity",
)


@dataclass(frozen=True, eq=False)
class LedgerEntry:
    """Where the relevance of one layer went; every array is (instances, targets).

    ``relevance_out = relevance_in + bias + stabiliser + empty_branch + sink``, up to rounding.

    Attributes:
        layer: the name of the layer; empty for the total.
        relevance_out: what arrived at its output.
        relevance_in: what it handed to its inputs.
        bias: the bias's share.
        stabiliser: the stabiliser's share.
        empty_branch: what fell into empty branches.
        sink: what went to constants, detached operands and padding.
    """

    layer: str
    relevance_out: FloatArray
    relevance_in: FloatArray
    bias: FloatArray
    stabiliser: FloatArray
    empty_branch: FloatArray
    sink: FloatArray


@dataclass(frozen=True)
class AppliedRule:
    """The rule of one operation.

    Attributes:
        layer: the layer it belongs to.
        node: the node.
        op: the operation.
        rule: such as ``epsilon(1e-06)``.
        fallback: whether it is the fallback that was asked for.
    """

    layer: str
    node: str
    op: str
    rule: str
    fallback: bool


@dataclass(frozen=True, eq=False)
class LrpExplanation:
    """Which inputs carried the evidence for each instance and target.

    Attributes:
        inputs: input name -> relevance, (instances, targets, ...input).
        layers: layer name -> relevance at its output, (instances, targets, ...layer), in the order asked for.
        classes: (instances, targets), the class that each explanation is of; -1 for the caller's own relevance.
        logit: (instances, targets), the value of the logit.
        relevance_out: (instances, targets), the relevance that started.
        relevance_in: (instances, targets), the relevance that reached the inputs.
        conservation_gap: (instances, targets), |relevance_out - relevance_in| / max(|relevance_out|, sum |R|).
        ledger_residual: (instances, targets), what the ledger leaves unexplained, on the same scale.
        sparseness: (instances, targets), the Gini index of |R| over the inputs, 0 to 1.
        entropy: (instances, targets), the entropy of |R| over the inputs, in nats.
        pixel_flipping_auc: (instances, targets), the area under the pixel-flipping curve; None unless asked for.
        random_logit_similarity: (instances, targets), the similarity to the explanation of a random other class; None
            unless asked for.
        ledger: one entry per layer in the order of propagation, output first, and the total; empty for gradient
            methods.
        applied_rules: the rule of each operation that has one.
        head_cut_at: the softmax or sigmoid that was cut off; empty if none was.
        provenance: what was explained, by what, at what cost.
        pictures: if asked for.
    """

    inputs: Mapping[str, Array]
    layers: Mapping[str, Array]
    classes: NDArray[np.int64]
    logit: FloatArray
    relevance_out: FloatArray
    relevance_in: FloatArray
    conservation_gap: FloatArray
    ledger_residual: FloatArray
    sparseness: FloatArray
    entropy: FloatArray
    pixel_flipping_auc: FloatArray | None
    random_logit_similarity: FloatArray | None
    ledger: tuple[LedgerEntry, ...]
    applied_rules: tuple[AppliedRule, ...]
    head_cut_at: str
    provenance: Provenance
    pictures: tuple[Picture, ...] = field(default=())

    @property
    def relevance(self) -> Array:
        """The relevance of a model's only input, (instances, targets, ...input).

        Raises:
            KeyError: the model has several; they are in `inputs`.
        """
        if len(self.inputs) != 1:
            raise KeyError(
                f"the model has {len(self.inputs)} inputs; take one of inputs[...]: {', '.join(self.inputs)}"
            )
        return next(iter(self.inputs.values()))

    @property
    def total(self) -> LedgerEntry | None:
        """The ledger of the whole model; None for gradient methods."""
        return next((entry for entry in self.ledger if not entry.layer), None)

    @property
    def instance_count(self) -> int:
        """The number of instances."""
        return len(self.classes)

    def __repr__(self) -> str:
        where = f"{self.provenance.model}:{self.provenance.version}"
        count, targets = self.classes.shape
        each = f"{targets} {'target' if targets == 1 else 'targets'} each"
        return f"<LrpExplanation of {where}, {count} instances, {each}, gap up to {self.conservation_gap.max():.2g}>"

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures as plain numbers, lists and text, fit for JSON."""
        quality = {name: getattr(self, name) for name in _QUALITY}
        return {
            "instance_count": self.instance_count,
            "inputs": {name: array.tolist() for name, array in self.inputs.items()},
            "layers": {name: array.tolist() for name, array in self.layers.items()},
            "classes": self.classes.tolist(),
            **{name: None if array is None else array.tolist() for name, array in quality.items()},
            "ledger": [
                {"layer": entry.layer, **{name: getattr(entry, name).tolist() for name in LEDGER_COLUMNS}}
                for entry in self.ledger
            ],
            "applied_rules": [dataclasses.asdict(rule) for rule in self.applied_rules],
            "head_cut_at": self.head_cut_at,
            "provenance": dataclasses.asdict(self.provenance),
        }

    def to_npz(self, path: str | Path) -> None:
        """Writes everything but the pictures to a NumPy archive that loads without pickle.

        ``input/<name>`` and ``layer/<name>`` hold relevance; `classes`, `logit` and the other numbers are (instances,
        targets); `ledger_layer` holds names, and `ledger_relevance_out` and the others (entries, instances, targets);
        `applied_rules`, `head_cut_at` and `provenance` are text, the first and last of it JSON.
        """
        columns: dict[str, Any] = {f"input/{name}": array for name, array in self.inputs.items()}
        columns |= {f"layer/{name}": array for name, array in self.layers.items()}
        columns["classes"] = self.classes
        columns |= {name: value for name in _QUALITY if (value := getattr(self, name)) is not None}
        columns["ledger_layer"] = np.array([entry.layer for entry in self.ledger], dtype=np.str_)
        for name in LEDGER_COLUMNS:
            columns[f"ledger_{name}"] = np.array([getattr(entry, name) for entry in self.ledger])
        columns["applied_rules"] = np.array(json.dumps([dataclasses.asdict(rule) for rule in self.applied_rules]))
        columns["head_cut_at"] = np.array(self.head_cut_at)
        columns["provenance"] = np.array(json.dumps(dataclasses.asdict(self.provenance)))
        # Through an open file, because numpy would add ".npz" to a path that lacks it.
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **columns)
