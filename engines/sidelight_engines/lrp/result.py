"""What relevance propagation gives back."""

from __future__ import annotations

from dataclasses import dataclass

from sidelight_engines.linearity.result import Notice
from sidelight_engines.lrp.parameters import LrpParameters
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True)
class Relevance:
    """Relevance at an input or at a layer's output.

    Attributes:
        name: of the input or layer.
        values: (n, targets, ...), float32 or, if the tensor is float64, float64.
    """

    name: str
    values: Array


@dataclass(frozen=True)
class Explained:
    """What was explained for one instance and target, and how well.

    Attributes:
        instance: the instance's position.
        class_index: the position among the instance's logits, flattened; -1 for the caller's own relevance.
        logit: its logit; NaN for the caller's own relevance.
        relevance_out: the relevance that started. For gradient methods: what the attributions should sum to, which
            is the value that is explained (INTEGRATED_GRADIENTS: less its value at the baseline).
        relevance_in: the relevance that reached the inputs.
        conservation_gap: |relevance_out - relevance_in| / max(|relevance_out|, sum |R|), the sum over the inputs.
        ledger_residual: what the ledger leaves unexplained, on the same scale; 0 for gradient methods.
        sparseness: the Gini index of |R| over the inputs, 0 to 1.
        entropy: the entropy of |R| / sum |R| over the inputs, in nats.
        pixel_flipping_auc: the area under the pixel-flipping curve; None unless asked for.
        random_logit_similarity: the cosine with the explanation of a random other class; None unless asked for.
    """

    instance: int
    class_index: int
    logit: float
    relevance_out: float
    relevance_in: float
    conservation_gap: float
    ledger_residual: float
    sparseness: float
    entropy: float
    pixel_flipping_auc: float | None = None
    random_logit_similarity: float | None = None


@dataclass(frozen=True)
class LedgerEntry:
    """Where the relevance of one layer went.

    Every array is float64 of shape (n, targets), and
    relevance_out = relevance_in + bias + stabiliser + empty_branch + sink, up to rounding.

    Attributes:
        layer: the layer; empty for the total.
        relevance_out: what arrived at its output.
        relevance_in: what it handed to its inputs.
        bias: the bias's share.
        stabiliser: the stabiliser's share.
        empty_branch: what fell into empty branches.
        sink: what went to constants, detached operands and padding.
    """

    layer: str
    relevance_out: Array
    relevance_in: Array
    bias: Array
    stabiliser: Array
    empty_branch: Array
    sink: Array

    @property
    def residual(self) -> Array:
        """What the entry leaves unexplained: rounding."""
        booked = self.relevance_in + self.bias + self.stabiliser + self.empty_branch + self.sink
        unexplained: Array = self.relevance_out - booked
        return unexplained


@dataclass(frozen=True)
class AppliedRule:
    """The rule of one operation.

    Attributes:
        layer: the layer that it belongs to.
        node: the node's name in the file, or in the TensorFlow form of an ONNX file.
        op: the operation.
        rule: such as ``epsilon(1e-06)``.
        fallback: whether it is the caller's fallback.
    """

    layer: str
    node: str
    op: str
    rule: str
    fallback: bool = False


@dataclass(frozen=True)
class LrpResult:
    """Which inputs carried the evidence.

    Attributes:
        inputs: the relevance of each input, (n, targets, ...input). Of an input that holds indices: per index.
        layers: the relevance at the layers asked for, in their order; for all, in the order of evaluation.
        explained: one per instance and target, instance outermost.
        ledger: one per layer that relevance passed, output first; then the total, whose layer is empty. Empty for
            gradient methods.
        applied_rules: in the order of propagation, output first. Empty for gradient methods.
        head_cut_at: the layer whose softmax or sigmoid was cut off; empty if none was.
        forward_rows: rows that were sent through the model, forward or forward and back.
        warnings: what a reader should know.
        parameters: as they were used: output resolved.
    """

    inputs: tuple[Relevance, ...]
    layers: tuple[Relevance, ...]
    explained: tuple[Explained, ...]
    ledger: tuple[LedgerEntry, ...]
    applied_rules: tuple[AppliedRule, ...]
    head_cut_at: str
    forward_rows: int
    warnings: tuple[Notice, ...]
    parameters: LrpParameters
