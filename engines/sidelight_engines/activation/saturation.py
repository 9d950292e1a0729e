"""Units at a bound of their activation.

A sigmoid or tanh unit that stays near a bound passes next to no gradient and tells examples apart no more (Glorot
and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010). Near is within
`MARGIN` of the distance between the bounds, and a unit is saturated where at least `SHARE` of all examples have it
there, at either bound. ReLU has one bound, and a unit that stays at it is dead.
"""

from __future__ import annotations

from sidelight_engines.runtime.runtime import Array

MARGIN = 0.01
SHARE = 0.95

# Operation -> its least and greatest value. Softmax is left out: a confident prediction is no stuck unit.
_BOUNDS: dict[str, tuple[float | None, float]] = {
    "HardSigmoid": (0.0, 1.0),
    "Relu6": (None, 6.0),
    "Sigmoid": (0.0, 1.0),
    "Softsign": (-1.0, 1.0),
    "Tanh": (-1.0, 1.0),
}


def near_bound(activations: Array, op: str) -> Array | None:
    """Which activations are near a bound.

    Args:
        activations: (examples, units).
        op: the operation that made them.

    Returns:
        bool (examples, units); None where the operation has no bounds.
    """
    bounds = _BOUNDS.get(op)
    if bounds is None:
        return None
    low, high = bounds
    # Where there is a single bound, the distance is from 0.
    margin = MARGIN * (high - (low or 0.0))
    near: Array = activations >= high - margin
    return near if low is None else near | (activations <= low + margin)
