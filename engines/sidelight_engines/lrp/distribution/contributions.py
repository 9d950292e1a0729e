"""Contributions by their sign: summed for each output, and handed back to the inputs.

    P_j = sum_i z_ij+,      N_j = sum_i |z_ij-|

are products of non-negative numbers: L(x, W+) and L(x, |W-|) where x is never negative, else L(x+, W+) + L(|x-|, |W-|)
and L(x+, |W-|) + L(|x-|, W+). Where many numbers are summed, P and N are of one magnitude and the identities

    P_j = (sum_i |x_i| |w_ij| + z_j) / 2,      N_j = (sum_i |x_i| |w_ij| - z_j) / 2,      N_j = P_j - z_j for x >= 0

save up to five of eight products. Where few are summed, one may be far smaller than the other and the difference holds
little but rounding, by which relevance is then multiplied; there all products are made, which cost little.

Inputs of both signs are then taken as twice as many that are not negative (`LinearStep.of_halves`), if the operation
allows it: four products of twice the length in place of eight.

Below a ReLU, where z is known to be positive, `branches` takes P_j = N_j + z_j, which is no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidelight_engines.lrp.distribution.step import LinearStep, by_input
from sidelight_engines.lrp.walk.node import Node

# Numbers that an output sums, up to which no difference is taken.
_FEW = 128


@dataclass(frozen=True)
class Contributions:
    """The contributions of an operation's inputs to its outputs.

    Attributes:
        step: the operation.
    """

    step: LinearStep

    @property
    def exact(self) -> bool:
        """Whether sums are made of products alone."""
        count = self.step.map.summed
        return count is not None and count <= _FEW

    def sums(self, both: bool) -> tuple[Any, Any]:
        """P, and N or, if only one is asked for, None; both at least 0, exactly 0 where nothing contributes."""
        import tensorflow as tf

        step, weights = self.step, self.step.weights
        if step.nonnegative:
            positive = step.map.forward(step.x, weights.positive)
            if not both:
                return positive, None
            if self.exact:
                return positive, step.map.forward(step.x, weights.negative)
            return positive, _difference(positive - step.z, positive)
        if self.exact:
            up, down = self._parts()
            positive = step.map.forward(up, weights.positive) + step.map.forward(down, weights.negative)
            if not both:
                return positive, None
            return positive, step.map.forward(up, weights.negative) + step.map.forward(down, weights.positive)
        magnitude = step.map.forward(tf.abs(step.x), weights.absolute)
        positive = _difference(magnitude + step.z, magnitude) / 2
        return positive, _difference(magnitude - step.z, magnitude) / 2 if both else None

    def handed_back(self, node: Node, positive: Any, negative: Any) -> Any:
        """R_i = sum_j z_ij+ s_j - |z_ij-| t_j, given s and t; None for a t of 0."""
        import tensorflow as tf

        step, weights = self.step, self.step.weights
        straight = [(1.0, positive, weights.positive)]
        crossed = [(1.0, positive, weights.negative)]
        if negative is not None:
            straight.append((-1.0, negative, weights.negative))
            crossed.append((-1.0, negative, weights.positive))
        if step.nonnegative:
            return by_input(node, step, step.x, step.back_sum(straight))
        if self.exact:
            shares = [step.back_sum(straight), step.back_sum(crossed)]
            return node.meet(lambda a, b, up, down: a * up + b * down, step.x_where, shares, list(self._parts()))
        added = positive if negative is None else positive + negative
        taken = positive if negative is None else positive - negative
        plain, absolute = step.back(added, weights.plain), step.back(taken, weights.absolute)
        return node.meet(lambda p, a, x: (p * x + a * tf.abs(x)) / 2, step.x_where, [plain, absolute], [step.x])

    def _parts(self) -> tuple[Any, Any]:
        import tensorflow as tf

        return tf.nn.relu(self.step.x), tf.nn.relu(-self.step.x)


def rounding(values: Any) -> float:
    """How large a difference of two sums can be, relative to them, by rounding alone."""
    import tensorflow as tf

    return 1e-14 if values.dtype == tf.float64 else 1e-6


def where_positive(values: Any, of: Any) -> Any:
    """Values where `of`, of the same shape, is positive, else 0: what a ReLU does to gradients, in one sweep."""
    import tensorflow as tf

    return tf.raw_ops.ReluGrad(gradients=values, features=of)


def _difference(value: Any, scale: Any) -> Any:
    """A difference of sums as large as `scale`, 0 where rounding alone may have made it."""
    return where_positive(value, value - rounding(value) * scale)
