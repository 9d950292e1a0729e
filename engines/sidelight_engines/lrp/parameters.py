"""What a caller may ask of relevance propagation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sidelight_engines.lrp.presets import LrpPreset
from sidelight_engines.lrp.rules import Epsilon, Rule
from sidelight_engines.runtime.runtime import Array


class LayerPosition(Enum):
    """A place in a model."""

    FIRST = "first"
    """The operation or operations with weights that no other with weights comes before."""
    LAST = "last"
    """The one that none comes after."""


@dataclass(frozen=True)
class MatchLayer:
    """A layer by name.

    Attributes:
        name: the author's name, or its tensor's or a node's in the file.
    """

    name: str


@dataclass(frozen=True)
class MatchGlob:
    """Layers by a pattern.

    Attributes:
        pattern: with * and ?, such as ``block1_*``; case counts.
    """

    pattern: str


@dataclass(frozen=True)
class MatchOp:
    """Operations by type.

    Attributes:
        op: TensorFlow's name, or ONNX's for an ONNX model: ``Conv2D``, ``Gemm``.
    """

    op: str


@dataclass(frozen=True)
class MatchPosition:
    """Operations by their place in the model."""

    position: LayerPosition


Match = MatchLayer | MatchGlob | MatchOp | MatchPosition


@dataclass(frozen=True)
class RuleEntry:
    """A rule for some operations.

    Attributes:
        match: which.
        rule: the rule.
    """

    match: Match
    rule: Rule


@dataclass(frozen=True)
class RuleMap:
    """A caller's own choice of rules.

    Attributes:
        entries: the first that matches counts. One that matches nothing is refused.
        otherwise: the rule of operations with weights that no entry matches. Sums and averages that none matches
            take norm 1e-6.
    """

    entries: tuple[RuleEntry, ...] = ()
    otherwise: Rule = field(default_factory=Epsilon)


class GradientKind(Enum):
    """The kinds of gradient method."""

    GRADIENT = "gradient"
    INPUT_TIMES_GRADIENT = "input_times_gradient"
    INTEGRATED_GRADIENTS = "integrated_gradients"
    """Sundararajan et al. 2017: (x - baseline) times the mean gradient on the straight path, by the midpoint rule."""
    SMOOTH_GRAD = "smooth_grad"
    """Smilkov et al. 2017: the mean gradient at points with Gaussian noise."""
    GUIDED_BACKPROP = "guided_backprop"
    """Springenberg et al. 2015: at ReLUs only positive gradients of active units pass."""
    DECONVNET = "deconvnet"
    """Zeiler and Fergus 2014: at ReLUs only positive gradients pass."""


@dataclass(frozen=True)
class GradientMethod:
    """A gradient method that is not LRP.

    Attributes:
        kind: which.
        samples: INTEGRATED_GRADIENTS and SMOOTH_GRAD: the number of points, 2 to 4,096.
        noise: SMOOTH_GRAD: the standard deviation of the noise as a share of each instance's range, above 0, at most
            10.
        seed: SMOOTH_GRAD: 0 to 2^64 - 1.
        baseline: INTEGRATED_GRADIENTS: where paths start; a scalar or one instance; None for zeros.
        first_instance: SMOOTH_GRAD: the position of the first instance in a longer list; noise hangs on it.
    """

    kind: GradientKind = GradientKind.GRADIENT
    samples: int = 64
    noise: float = 0.1
    seed: int = 0
    baseline: Array | None = None
    first_instance: int = 0


class TargetValue(Enum):
    """The start value of relevance."""

    LOGIT = "logit"
    ONE = "one"
    MARGIN = "margin"
    """The logit, and minus the largest other logit at that one's place: together, the margin."""


@dataclass(frozen=True)
class Classes:
    """The same classes for all instances; several give several explanations of each instance.

    Attributes:
        indices: positions among an instance's logits, flattened; at least one. A repeated one counts once.
    """

    indices: tuple[int, ...]


@dataclass(frozen=True)
class ClassPerInstance:
    """One class per instance.

    Attributes:
        indices: one per instance.
    """

    indices: tuple[int, ...]


@dataclass(frozen=True)
class GivenRelevance:
    """The caller's own relevance.

    Attributes:
        values: (n, ...logits) or (n, targets, ...logits), finite.
    """

    values: Array


@dataclass(frozen=True)
class LrpTarget:
    """Where relevance starts.

    Attributes:
        what: what is explained; None for the largest logit of each instance.
        output: the name of the output; empty for the model's first.
        value: the start value; not read for GivenRelevance.
    """

    what: Classes | ClassPerInstance | GivenRelevance | None = None
    output: str = ""
    value: TargetValue = TargetValue.LOGIT


@dataclass(frozen=True)
class LayerSelection:
    """The layers to return relevance at, beside the inputs.

    Attributes:
        names: in the order wanted; a repeated name counts once. Empty if `everything` is set.
        everything: every layer that relevance passes.
    """

    names: tuple[str, ...] = ()
    everything: bool = False


class EmptyBranchPolicy(Enum):
    """What becomes of relevance at a neuron whose positive or negative branch is empty."""

    REPORT = "report"
    """It is booked in the ledger as lost: equal to the reference libraries."""
    RENORMALISE = "renormalise"
    """It goes to the other branch: conserves."""


class LrpFallback(Enum):
    """What becomes of an operation without an entry in the table."""

    ERROR = "error"
    GRADIENT = "gradient"


class AttentionRule(Enum):
    """How products and softmax in attention are treated."""

    ATTN_LRP = "attn_lrp"
    """Achtibat et al. 2024: through both operands and the softmax."""
    CP_LRP = "cp_lrp"
    """Ali et al. 2022: attention weights are constants."""


@dataclass(frozen=True)
class QualityOptions:
    """Quality figures that cost forward passes.

    Attributes:
        pixel_flipping_steps: steps of the pixel-flipping curve, 0 to 1,000; 0 for none.
        random_logit: also compares with the explanation of a random other class.
        seed: of what is random here, 0 to 2^64 - 1.
        first_instance: the position of the first instance in a longer list; what is random hangs on it.
    """

    pixel_flipping_steps: int = 0
    random_logit: bool = False
    seed: int = 0
    first_instance: int = 0


@dataclass(frozen=True)
class LrpParameters:
    """How relevance is propagated.

    Attributes:
        method: what decides the rule of each operation, or a method that is not LRP.
        input_minimum: for a z-box: the least value that an input can have; a scalar or one instance.
        input_maximum: for a z-box: the greatest.
        target: where relevance starts.
        layers: where else relevance is returned.
        empty_branch: what becomes of relevance in empty branches.
        fallback: what becomes of operations without an entry.
        attention: how products in attention are treated.
        quality: what else is computed.
    """

    method: LrpPreset | RuleMap | GradientMethod = LrpPreset.EPSILON_PLUS
    input_minimum: Array | float | None = None
    input_maximum: Array | float | None = None
    target: LrpTarget = field(default_factory=LrpTarget)
    layers: LayerSelection = field(default_factory=LayerSelection)
    empty_branch: EmptyBranchPolicy = EmptyBranchPolicy.REPORT
    fallback: LrpFallback = LrpFallback.ERROR
    attention: AttentionRule = AttentionRule.ATTN_LRP
    quality: QualityOptions = field(default_factory=QualityOptions)


@dataclass(frozen=True)
class Chunking:
    """How work is cut into passes.

    Attributes:
        rows: the most instances per pass.
        memory_bytes: about what the tensors of one pass may take.
    """

    rows: int = 192
    memory_bytes: int = 2**31
