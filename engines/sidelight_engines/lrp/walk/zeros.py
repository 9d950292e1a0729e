"""Where relevance is known to be 0, from how it came about.

What a rule hands to x as a multiple of x is 0 wherever x is, and stays so while operations only move values about or
choose among them. When it comes to what a ReLU reads, it is 0 wherever that is not positive: rules that divide by sums
then need to look at positive ones alone. Nothing is computed for this; it is noted while the walk is traced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidelight_engines.lrp.rules import AlphaBeta, AlphaBetaX, Epsilon, Gamma, Norm, Rule

# Each value they make is one that they read, so it is 0 where that is.
_COPY = frozenset(
    {"BatchToSpaceND", "CheckNumerics", "ConcatV2", "DepthToSpace", "EnsureShape", "ExpandDims", "Identity", "MaxPool"}
    | {"MaxPool3D", "MaxPoolV2", "Pack", "Pad", "PreventGradient", "Reshape", "Slice", "Snapshot", "SpaceToBatchND"}
    | {"SpaceToDepth", "Split", "SplitV", "Squeeze", "StopGradient", "StridedSlice", "Transpose", "Unpack"}
)


class Zeros:
    """Notes of tensors that relevance vanishes with: relevance is 0 wherever the noted tensor, of its shape, is 0."""

    def __init__(self) -> None:
        self._of: dict[str, Any] = {}

    def note(self, relevance: Any, tensor: Any) -> None:
        """Notes that relevance is 0 wherever a tensor of the same shape is."""
        self._of[relevance.name] = tensor

    def vanishes(self, relevance: Any, y: Any) -> bool:
        """Whether the relevance of y is known to be 0 wherever y is."""
        return self._noted(relevance) == str(y.name)

    def after_rule(self, rule: Rule, relevance: Any, x: Any) -> None:
        """Notes what a rule hands to its input x."""
        if isinstance(rule, AlphaBeta | AlphaBetaX | Epsilon | Gamma | Norm):
            self.note(relevance, x)

    def after_op(self, op: Any, came: Sequence[Any], handed: Sequence[tuple[Any, Any]]) -> None:
        """Notes what an operation hands on.

        Args:
            op: the operation.
            came: the relevance of each of its outputs; None where nothing came.
            handed: (tensor that it reads, relevance).
        """
        if op.type in _COPY and all(
            part is None or self._noted(part) == made.name for part, made in zip(came, op.outputs, strict=True)
        ):
            for tensor, relevance in handed:
                self.note(relevance, tensor)

    def after_sum(self, parts: Sequence[Any], whole: Any) -> None:
        """Notes a sum of relevance that came to one tensor from several sides."""
        noted = {self._noted(part) for part in parts}
        if len(noted) == 1 and None not in noted:
            self.note(whole, self._of[parts[0].name])

    def active(self, relevance: Any, y: Any) -> Any:
        """The output of a ReLU that reads y, if the relevance of y is 0 wherever that is; else None."""
        found = self._of.get(relevance.name)
        fits = found is not None and found.op.type == "Relu" and found.op.inputs[0].name == y.name
        return found if fits else None

    def _noted(self, relevance: Any) -> str | None:
        found = self._of.get(relevance.name)
        return None if found is None else str(found.name)
