"""The warning that a gradient is zero: said by workers of a part and by the front process of the whole."""

from __future__ import annotations

from collections.abc import Sequence

from sidelight.v1 import explanation_pb2

ZERO_GRADIENT = "GRADIENT_ZERO"
"""The code of the warning."""


def zero_gradient_warnings(norms: Sequence[float]) -> list[explanation_pb2.Warning]:
    """Says which instances nothing can be told of.

    Args:
        norms: of the gradients of the rankings, in order.
    """
    flat = [position for position, norm in enumerate(norms) if norm == 0]
    if not flat:
        return []
    message = (
        f"the gradient of {len(flat)} of {len(norms)} instances is zero, first that of instance {flat[0]}: all its "
        "scores are 0, and their order means nothing"
    )
    return [explanation_pb2.Warning(code=ZERO_GRADIENT, message=message)]
