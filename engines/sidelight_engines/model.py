"""A model file, opened: its graph and whatever evaluates it, each made on first use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sidelight_engines.errors import GradientCheckFailed, MethodNotSupported, ModelInvalid, OpProblem, UnsupportedOp
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.graph.graph import Graph, ModelFormat
from sidelight_engines.graph.lowering import uncovered_ops
from sidelight_engines.graph.onnx_model import OnnxModel, read_onnx_model
from sidelight_engines.runtime.gradient_check import CheckState, GradientCheck, check_gradient_form
from sidelight_engines.runtime.onnx_runtime import OnnxRuntime
from sidelight_engines.runtime.runtime import Runtime, RuntimeKind

if TYPE_CHECKING:
    from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

FILES = {ModelFormat.ONNX: "model.onnx", ModelFormat.SAVED_MODEL: "saved_model.pb"}
"""The file of a version folder that makes it a model, by format."""

T = TypeVar("T")

# What is derived may hold a copy of the weights.
_DERIVED = 8


@dataclass(frozen=True)
class Support:
    """Whether work can be done on a model.

    Attributes:
        runtime: what would evaluate the model.
        reason: why the work can not be done; empty if it can.
        problems: the operations that stand in the way, if it is they.
    """

    runtime: RuntimeKind
    reason: str = ""
    problems: tuple[OpProblem, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether the work can be done."""
        return not self.reason


class Model:
    """A model version. Safe to use from several threads.

    A SavedModel is evaluated by TensorFlow. An ONNX model is evaluated by ONNX Runtime, and by TensorFlow where
    gradients are needed or TensorFlow is asked for: then its operations must all be covered, and its TensorFlow
    form must have passed the gradient check, which is made before its first use.

    Attributes:
        graph: its description.
    """

    def __init__(self, graph: Graph, runtime: Runtime, onnx: OnnxModel | None, threads: int | None) -> None:
        self.graph = graph
        self._native = runtime
        self._onnx = onnx
        self._threads = threads
        self._lock = threading.Lock()
        self._derived: OrderedDict[Hashable, Any] = OrderedDict()
        self._deriving = threading.Lock()
        self._tensorflow: Runtime | None = runtime if onnx is None else None
        self._problems = uncovered_ops(onnx) if onnx is not None else ()
        self._check = GradientCheck(CheckState.NOT_NEEDED if onnx is None else CheckState.PENDING)

    @property
    def native_runtime(self) -> RuntimeKind:
        """What evaluates the model when nothing else is asked for."""
        return self._native.kind

    @property
    def gradient_check(self) -> GradientCheck:
        """What came of comparing the TensorFlow form with ONNX Runtime, so far."""
        return self._check

    def forward_support(self) -> Support:
        """Whether forward passes can be made."""
        return Support(self._native.kind)

    def gradient_support(self) -> Support:
        """Whether gradients can be computed, as far as it is known by now."""
        if self._problems:
            reason = "; ".join(str(problem) for problem in self._problems)
            return Support(RuntimeKind.TENSORFLOW, f"operations without a TensorFlow form: {reason}", self._problems)
        if self._check.state is CheckState.FAILED:
            return Support(RuntimeKind.TENSORFLOW, self._check.message)
        return Support(RuntimeKind.TENSORFLOW)

    def runtime(self, kind: RuntimeKind | None = None) -> Runtime:
        """What evaluates the model.

        Args:
            kind: which runtime; None for the native one.

        Raises:
            MethodNotSupported: ONNX Runtime is asked for on a SavedModel.
            UnsupportedOp: TensorFlow is asked for and the ONNX model has operations that are not covered.
            GradientCheckFailed: TensorFlow is asked for and disagrees with ONNX Runtime.
        """
        if kind is None or kind is self._native.kind:
            return self._native
        if self._onnx is None:
            raise MethodNotSupported("ONNX Runtime", "it is a SavedModel; use TensorFlow")
        if self._problems:
            raise UnsupportedOp(self._problems)
        self.check_gradients()
        if self._tensorflow is None:
            raise GradientCheckFailed(self._check.message)
        return self._tensorflow

    def frozen(self) -> FrozenGraph:
        """The model as one TensorFlow graph, for gradients.

        Raises:
            UnsupportedOp: the ONNX model has operations that are not covered.
            GradientCheckFailed: its TensorFlow form disagrees with ONNX Runtime.
        """
        return self._differentiable().frozen

    def gradient_passes_at_once(self) -> int:
        """How many passes through the TensorFlow graph at a time fill the processors.

        Raises:
            UnsupportedOp: see `frozen`.
            GradientCheckFailed: see `frozen`.
        """
        return self._differentiable().at_once

    def _differentiable(self) -> TensorFlowRuntime:
        # It imports TensorFlow.
        from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

        runtime = self.runtime(RuntimeKind.TENSORFLOW)
        if not isinstance(runtime, TensorFlowRuntime):
            raise MethodNotSupported("differentiation", f"{runtime.kind.value} evaluates it")
        return runtime

    def derived(self, key: Hashable, make: Callable[[], T]) -> T:
        """What an explainer makes of the model once and uses again, such as a traced function.

        Args:
            key: names it; keys of different explainers must differ.
            make: makes it; one thread at a time.

        Returns:
            What `make` gave for this key; the least lately used are forgotten.
        """
        with self._deriving:
            if key not in self._derived:
                self._derived[key] = make()
                if len(self._derived) > _DERIVED:
                    self._derived.popitem(last=False)
            self._derived.move_to_end(key)
            found: T = self._derived[key]
            return found

    def check_gradients(self) -> GradientCheck:
        """Makes the gradient check if it has not been made; what came of it.

        A model whose operations are not all covered fails it without being tried.
        """
        with self._lock:
            if self._check.state is CheckState.PENDING and self._onnx is not None:
                self._check, self._tensorflow = self._compare(self._onnx)
            return self._check

    def _compare(self, onnx: OnnxModel) -> tuple[GradientCheck, Runtime | None]:
        if self._problems:
            return GradientCheck(CheckState.FAILED, message=self.gradient_support().reason), None
        # Both import TensorFlow, which an ONNX model that needs no gradients can do without.
        from sidelight_engines.graph.lowering import lower
        from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

        try:
            candidate = TensorFlowRuntime(lower(onnx), self._threads)
        except UnsupportedOp as error:
            return GradientCheck(CheckState.FAILED, message=str(error)), None
        check = check_gradient_form(self.graph, self._native, candidate)
        return check, candidate if check.state is CheckState.PASSED else None


def open_model(folder: Path, model_format: ModelFormat, threads: int | None = None) -> Model:
    """Opens a model version and makes it ready for forward passes.

    Args:
        folder: the version's folder.
        model_format: which of the files in it is the model.
        threads: threads that the runtime may use for one forward pass; None for one per processor.

    Raises:
        ModelInvalid: the files can not be read as a model of that format.
    """
    if model_format is ModelFormat.ONNX:
        onnx = read_onnx_model(folder / FILES[model_format])
        runtime = OnnxRuntime(onnx, threads)
        if onnx.graph.outputs:
            # Makes the session now: a model that ONNX Runtime refuses must fail to load, not to explain.
            runtime.forward([spec.tensor for spec in onnx.graph.outputs])
        return _checked(Model(onnx.graph, runtime, onnx, threads), folder)
    # Both import TensorFlow.
    from sidelight_engines.graph.saved_model import read_saved_model
    from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

    saved = read_saved_model(folder)
    return _checked(Model(saved.graph, TensorFlowRuntime(saved.frozen, threads), None, threads), folder)


def _checked(model: Model, folder: Path) -> Model:
    if not model.graph.outputs:
        raise ModelInvalid(f"{folder}: the model has no numeric tensor among its outputs; there is nothing to explain")
    return model
