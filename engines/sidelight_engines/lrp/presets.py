"""Published presets as tables: which rule for which operation with weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from sidelight_engines.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Rule, ZBox


class LrpPreset(Enum):
    """Published presets, under their published names."""

    EPSILON_PLUS = "epsilon_plus"
    """zennit: convolution z+, dense epsilon 1e-6."""
    EPSILON_PLUS_FLAT = "epsilon_plus_flat"
    """zennit: EPSILON_PLUS with flat at the first layer."""
    EPSILON_ALPHA2_BETA1 = "epsilon_alpha2_beta1"
    """zennit: convolution alpha 2 beta 1, dense epsilon 1e-6."""
    EPSILON_ALPHA2_BETA1_FLAT = "epsilon_alpha2_beta1_flat"
    """zennit: EPSILON_ALPHA2_BETA1 with flat at the first layer."""
    EPSILON_GAMMA_BOX = "epsilon_gamma_box"
    """zennit: first convolution z-box, convolution gamma 0.25, dense epsilon 1e-6."""
    EXCITATION_BACKPROP = "excitation_backprop"
    """zennit: z+ everywhere."""
    SEQUENTIAL_A = "sequential_a"
    """iNNvestigate: dense epsilon 0.1, convolution alpha 1 beta 0 with bias."""
    SEQUENTIAL_B = "sequential_b"
    """iNNvestigate: dense epsilon 0.1, convolution alpha 2 beta 1 with bias."""
    SEQUENTIAL_A_FLAT = "sequential_a_flat"
    """iNNvestigate: SEQUENTIAL_A with flat at the input."""
    SEQUENTIAL_B_FLAT = "sequential_b_flat"
    """iNNvestigate: SEQUENTIAL_B with flat at the input."""
    DEEP_TAYLOR = "deep_taylor"
    """iNNvestigate: z+ without bias, averages flat; only positive logits start.

    iNNvestigate 2.1.2 has w-square for layers without activation, but takes every Keras layer to have one.
    """
    DEEP_TAYLOR_BOUNDED = "deep_taylor_bounded"
    """DEEP_TAYLOR with z-box at the input."""


class LayerKind(Enum):
    """What an operation with weights is."""

    CONVOLUTION = "convolution"
    """Of any number of axes, grouped, depthwise or transposed."""
    DENSE = "dense"
    """A matrix product or an Einsum."""


@dataclass(frozen=True)
class PresetRow:
    """A rule for some operations with weights; the first row that fits counts.

    Attributes:
        rule: the rule.
        kind: the kind of operation; None for all.
        first: whether the row is for operations alone that no other with weights comes before.
    """

    rule: Rule
    kind: LayerKind | None = None
    first: bool = False


@dataclass(frozen=True)
class Preset:
    """A preset.

    Attributes:
        rows: the rules of operations with weights, by precedence; the last fits every operation.
        sums: the rule of sums.
        averages: the rule of averages.
        positive_start: whether only the positive part of what is explained starts.
    """

    rows: tuple[PresetRow, ...]
    sums: Norm = Norm()  # noqa: RUF009 - it is frozen
    averages: Rule = Norm()  # noqa: RUF009
    positive_start: bool = False

    @property
    def box(self) -> bool:
        """Whether the least and greatest value of the input must be known."""
        return any(isinstance(row.rule, ZBox) and row.rule.low is None for row in self.rows)


def _zennit(convolution: Rule, first: PresetRow | None = None, dense: Rule | None = None) -> Preset:
    rows = (PresetRow(convolution, LayerKind.CONVOLUTION), PresetRow(Epsilon(1e-6) if dense is None else dense))
    return Preset(rows if first is None else (first, *rows))


# What iNNvestigate divides by is stabilised only where it is exactly 0, which is the mask of empty branches here.
def _innvestigate(convolution: Rule, flat: bool = False) -> Preset:
    rows = (PresetRow(convolution, LayerKind.CONVOLUTION), PresetRow(Epsilon(0.1)))
    return Preset((PresetRow(Flat(0.0), first=True), *rows) if flat else rows, Norm(0.0), Norm(0.0))


def _deep_taylor(bounded: bool) -> Preset:
    row = PresetRow(AlphaBeta(1.0, 0.0, 0.0, ignore_bias=True))
    rows = (PresetRow(ZBox(epsilon=0.0), first=True), row) if bounded else (row,)
    return Preset(rows, Norm(0.0), Flat(0.0), positive_start=True)


_Z_PLUS = AlphaBeta(1.0, 0.0)
_FLAT_FIRST = PresetRow(Flat(), first=True)
_BOX_FIRST = PresetRow(ZBox(), LayerKind.CONVOLUTION, first=True)

PRESETS: Mapping[LrpPreset, Preset] = {
    LrpPreset.EPSILON_PLUS: _zennit(_Z_PLUS),
    LrpPreset.EPSILON_PLUS_FLAT: _zennit(_Z_PLUS, _FLAT_FIRST),
    LrpPreset.EPSILON_ALPHA2_BETA1: _zennit(AlphaBeta(2.0, 1.0)),
    LrpPreset.EPSILON_ALPHA2_BETA1_FLAT: _zennit(AlphaBeta(2.0, 1.0), _FLAT_FIRST),
    LrpPreset.EPSILON_GAMMA_BOX: _zennit(Gamma(0.25), _BOX_FIRST),
    LrpPreset.EXCITATION_BACKPROP: _zennit(_Z_PLUS, dense=_Z_PLUS),
    LrpPreset.SEQUENTIAL_A: _innvestigate(AlphaBeta(1.0, 0.0, 0.0)),
    LrpPreset.SEQUENTIAL_B: _innvestigate(AlphaBeta(2.0, 1.0, 0.0)),
    LrpPreset.SEQUENTIAL_A_FLAT: _innvestigate(AlphaBeta(1.0, 0.0, 0.0), flat=True),
    LrpPreset.SEQUENTIAL_B_FLAT: _innvestigate(AlphaBeta(2.0, 1.0, 0.0), flat=True),
    LrpPreset.DEEP_TAYLOR: _deep_taylor(bounded=False),
    LrpPreset.DEEP_TAYLOR_BOUNDED: _deep_taylor(bounded=True),
}
"""Every preset's table."""
