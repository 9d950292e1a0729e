"""The models of a server, as a client sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class UnsupportedOp:
    """An operation of a model that the server does not cover.

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


@dataclass(frozen=True)
class ModelError:
    """Why a model version could not be loaded.

    Attributes:
        reason: a stable name, such as ``MODEL_FILES_INCOMPLETE``.
        message: what was wrong, where, and what to try.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    Attributes:
        version: the version number.
        state: ``unloaded``, ``loading``, ``available``, ``draining`` or ``failed``.
        labels: the labels that point at it.
        format: ``onnx`` or ``saved-model``; empty while its folder holds neither.
        digest: of its files; empty until they have been read.
        size_bytes: the size of its files together.
        available_time: when it became available (UTC); None before.
        error: why it failed, or why the newest attempt to load it anew did; None otherwise.
    """

    version: int
    state: str
    labels: tuple[str, ...]
    format: str
    digest: str
    size_bytes: int
    available_time: datetime | None
    error: ModelError | None

    @property
    def available(self) -> bool:
        """Whether it serves requests."""
        return self.state == "available"


@dataclass(frozen=True)
class Model:
    """A model of the repository.

    Attributes:
        name: its folder in the repository.
        versions: all that were found on disk or are in memory, ascending.
    """

    name: str
    versions: tuple[ModelVersion, ...]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: the name by which requests and responses call it.
        data_type: the element type, by numpy's name where numpy has it: ``float32``.
        shape: the length of each axis, -1 where it is free; the first is the batch.
    """

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A named step of a model, whose output can be explained.

    Attributes:
        name: what the model's author called it.
        op: the operation that makes its output, such as ``Conv2D``.
        data_type: the element type of its output.
        shape: of its output, -1 where free; None if the file does not tell.
        parameter_count: the number of learned numbers in it.
        affine: whether its output is an affine function of the model's input by the structure.
        tensor: the name of the tensor in the file; requests may use it too.
        is_output: whether it makes the model's explained output.
        lrp_supported: whether relevance propagation covers it; None if the server does not say.
    """

    name: str
    op: str
    data_type: str
    shape: tuple[int, ...] | None
    parameter_count: int
    affine: bool
    tensor: str
    is_output: bool
    lrp_supported: bool | None


@dataclass(frozen=True)
class MethodSupport:
    """Whether a method can be used on a model.

    Attributes:
        method: ``linearity``, ``similarity``, ``lrp``, ``activation-pattern`` or ``influence``.
        supported: whether it can be used.
        runtime: what evaluates the model for it.
        reason: why it can not be used; empty when it can.
        unsupported_ops: the operations that stand in the way, if it is they.
    """

    method: str
    supported: bool
    runtime: str
    reason: str
    unsupported_ops: tuple[UnsupportedOp, ...] = ()


@dataclass(frozen=True)
class GradientCheck:
    """How far the TensorFlow form of an ONNX model agrees with ONNX Runtime.

    Attributes:
        state: ``pending``, ``passed``, ``failed`` or ``not-needed``.
        max_absolute_error: the largest difference between the outputs.
        max_relative_error: that divided by the largest absolute output.
        tolerance: on `max_relative_error`.
        probe_rows: how many random rows were compared.
        message: what went wrong; empty otherwise.
    """

    state: str
    max_absolute_error: float
    max_relative_error: float
    tolerance: float
    probe_rows: int
    message: str


@dataclass(frozen=True)
class ModelDetail:
    """Everything known of one loaded model version.

    Attributes:
        name: the name of the model.
        version: the number of the version.
        status: its state, digest and labels.
        inputs: in the file's order.
        outputs: those that can be explained, in the file's order; the first is the default.
        layers: in the order of evaluation.
        parameter_count: the number of learned numbers in the whole model.
        methods: every method, and whether it can be used here.
        gradient_check: how far the TensorFlow form agrees with ONNX Runtime.
        producer: what wrote the file, as the file says.
        classifier: whether the default output is a probability.
    """

    name: str
    version: int
    status: ModelVersion
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...]
    parameter_count: int
    methods: tuple[MethodSupport, ...]
    gradient_check: GradientCheck
    producer: str
    classifier: bool


@dataclass(frozen=True)
class ServerInfo:
    """A server's version, methods and limits.

    Attributes:
        version: such as ``0.1.0``.
        methods: the methods that it has, such as ``linearity``.
        max_message_bytes: the largest request and the largest response.
        max_call_seconds: the longest that a call may run, also without a timeout.
        queue_limit: how many requests of one method may wait.
    """

    version: str
    methods: tuple[str, ...]
    max_message_bytes: int
    max_call_seconds: float
    queue_limit: int
