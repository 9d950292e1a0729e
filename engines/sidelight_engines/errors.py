"""The one hierarchy of errors that the engines raise.

Each says what was wrong, where, and what to try, and carries the particulars in typed fields, so that
a server can turn it into a status without reading the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class SidelightError(Exception):
    """What every error of the engines is."""


class InvalidField(SidelightError):
    """A value that a caller gave is not one that it may give.

    Args:
        field: the path of the field, in the caller's terms: ``parameters.samples``.
        problem: what is wrong with the value, naming it.
        remedy: what to give in its place.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}; {remedy}")
        self.field = field
        self.problem = problem
        self.remedy = remedy


class UnknownLayer(InvalidField):
    """A caller named a layer that the model does not have."""

    def __init__(self, field: str, layer: str, nearest: Sequence[str]) -> None:
        hint = f"did you mean {' or '.join(repr(n) for n in nearest)}?" if nearest else "list the layers with GetModel"
        super().__init__(field, f"the model has no layer {layer!r}", hint)
        self.layer = layer
        self.nearest = tuple(nearest)


@dataclass(frozen=True)
class OpProblem:
    """One operation that is not covered.

    Attributes:
        node: the name of the node in the file.
        op: the operation, such as ``Conv``.
        domain: its operator domain; empty for ONNX's own and for TensorFlow.
        opset: the operator-set version the file declares for that domain; 0 for TensorFlow.
        reason: why it is not covered.
    """

    node: str
    op: str
    domain: str
    opset: int
    reason: str

    def __str__(self) -> str:
        where = f"{self.domain}::{self.op}" if self.domain else self.op
        version = f" (opset {self.opset})" if self.opset else ""
        return f"node {self.node!r}: {where}{version}: {self.reason}"


class UnsupportedOp(SidelightError):
    """The model holds operations that are not covered."""

    def __init__(self, problems: Sequence[OpProblem]) -> None:
        super().__init__("; ".join(str(p) for p in problems))
        self.problems = tuple(problems)


class ModelFilesIncomplete(SidelightError):
    """The files of a model version are missing, half copied or still being written."""


class ModelInvalid(SidelightError):
    """The files of a model version can not be read as a model."""


class MethodNotSupported(SidelightError):
    """A method can not be used on this model, whatever the parameters."""

    def __init__(self, method: str, reason: str) -> None:
        super().__init__(f"{method} can not be used on this model: {reason}")
        self.method = method
        self.reason = reason


class GradientCheckFailed(SidelightError):
    """The TensorFlow form of an ONNX model disagrees with ONNX Runtime."""


class NonFiniteOutput(SidelightError):
    """The model gave NaN or infinity."""

    def __init__(self, layer: str, row: int) -> None:
        super().__init__(
            f"layer {layer!r} gave NaN or infinity for instance {row}; look at the model's output for that instance"
        )
        self.layer = layer
        self.row = row


class NonFiniteGradient(SidelightError):
    """The gradient of the loss at an example is NaN or infinite."""

    def __init__(self, example: str, row: int, layer: str) -> None:
        super().__init__(
            f"the gradient of {example} {row} is NaN or infinite at layer {layer!r}; "
            "look at the example, its label and the model's output for it"
        )
        self.example = example
        self.row = row
        self.layer = layer


class NonFiniteRelevance(SidelightError):
    """Relevance overflowed on its way back."""

    def __init__(self, layer: str, row: int) -> None:
        super().__init__(
            f"the relevance of instance {row} is NaN or infinite at {layer!r}; give a larger epsilon, or another rule"
        )
        self.layer = layer
        self.row = row


class IndexStale(SidelightError):
    """An index was built for something else than it is to be used with."""

    def __init__(self, what: str, built_for: str, given: str) -> None:
        super().__init__(f"the gradient index was built for {what} {built_for}, not for {given}; build it anew")
        self.what = what
        self.built_for = built_for
        self.given = given


class IndexDamaged(SidelightError):
    """The files of an index are missing, incomplete or not as they were written."""


class MemoryLimitExceeded(SidelightError):
    """The work would need more memory than it was granted."""

    def __init__(self, needed_bytes: int, limit_bytes: int, remedy: str) -> None:
        super().__init__(f"needs about {needed_bytes} bytes where {limit_bytes} are granted; {remedy}")
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes
        self.remedy = remedy


class Stopped(SidelightError):
    """The work was told to stop, because its caller cancelled or its deadline passed."""
