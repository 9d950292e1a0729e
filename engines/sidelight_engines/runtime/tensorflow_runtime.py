"""Runs a frozen TensorFlow graph: forward passes with taps.

Each tuple of fetched tensors becomes one traced function that imports the graph whole; TensorFlow prunes
what the tensors do not need and runs the rest at the speed of the model itself. TensorFlow is imported on use.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from sidelight_engines.errors import UnknownLayer
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.runtime.runtime import Array, ForwardPass, Lanes, RuntimeKind, SummingPass, sum_up
from sidelight_engines.runtime.tensorflow_passes import TensorFlowForwardPass, TensorFlowSegment

logger = logging.getLogger(__name__)

# Each traced function may come to hold its own copy of the weights.
_TRACED_FUNCTIONS = 8
# All passes share the threads of the process; a second pass fills the gaps that operations of the first leave.
_LANES = 2


class TensorFlowRuntime:
    """Evaluates one frozen graph. Safe to call from several threads.

    A graph whose batch axis has a fixed length is given any number of rows all the same: they are cut into
    chunks of that length and the last chunk is filled up with copies of its last row.

    Args:
        frozen: the graph.
        threads: threads that one operation may use; one per core if None. TensorFlow has one pool per
            process, so the first runtime of a process decides for all.
    """

    def __init__(self, frozen: FrozenGraph, threads: int | None = None) -> None:
        self._frozen = frozen
        self._lanes = 1 if threads == 1 else _LANES
        self._lock = threading.Lock()
        self._passes: OrderedDict[tuple[tuple[str, ...], ...], ForwardPass] = OrderedDict()
        self._nodes = {node.name: node for node in frozen.graph_def.node}
        placeholders = [self._nodes[name.partition(":")[0]].attr["shape"].shape for name in frozen.inputs.values()]
        self._fixed_batch = any(shape.dim and shape.dim[0].size >= 0 for shape in placeholders)
        if threads is not None:
            _limit_threads(threads)

    @property
    def kind(self) -> RuntimeKind:
        """What evaluates the model."""
        return RuntimeKind.TENSORFLOW

    @property
    def pooled_axis(self) -> int:
        """Channels are the last axis."""
        return 3

    @property
    def frozen(self) -> FrozenGraph:
        """The graph."""
        return self._frozen

    @property
    def at_once(self) -> int:
        """How many computations at a time fill the processors; see Lanes."""
        return self._lanes

    def forward(self, tensors: Sequence[str]) -> ForwardPass:
        """Prepares a forward pass that fetches these tensors.

        The arrays that it returns are views of TensorFlow's own memory and can not be written to.

        Args:
            tensors: tensor names of the graph; the model's inputs may be among them.

        Raises:
            UnknownLayer: the graph has no such tensor.
        """
        return self._forward(tuple(tensors), ())

    def lanes(self, tensors: Sequence[str], greatest: Sequence[str] = ()) -> Lanes:
        """Prepares forward passes that fetch these tensors and run side by side; see `forward` and `Runtime.lanes`."""
        return Lanes(self._forward(tuple(tensors), tuple(greatest)), self._lanes)

    def _forward(self, tensors: tuple[str, ...], greatest: tuple[str, ...]) -> ForwardPass:
        self._require((*tensors, *greatest))
        key = tensors, greatest, ("forward",)
        return self._cached(key, lambda: TensorFlowForwardPass(self._frozen, self._nodes, tensors, greatest))

    def _require(self, tensors: Sequence[str]) -> None:
        for tensor in tensors:
            if self._frozen.tensor(tensor).partition(":")[0] not in self._nodes:
                raise UnknownLayer("tensors", tensor, get_close_matches(tensor, self._nodes, n=3))

    def _cached(self, key: tuple[tuple[str, ...], ...], make: Callable[[], ForwardPass]) -> ForwardPass:
        # The lock is held while a function is traced, so that two threads never trace the same one.
        with self._lock:
            found = self._passes.get(key)
            if found is None:
                found = self._passes[key] = make()
                if len(self._passes) > _TRACED_FUNCTIONS:
                    self._passes.popitem(last=False)
            self._passes.move_to_end(key)
            return found

    def summing(self, summed: Sequence[str], fetched: Sequence[str], *, side_by_side: bool) -> SummingPass:
        """Prepares a forward pass that sums up within TensorFlow where all weights are equal; see `Runtime.summing`.

        Args:
            summed: as of `Runtime.summing`.
            fetched: likewise.
            side_by_side: likewise; it changes nothing here.

        Raises:
            UnknownLayer: as `forward`.
        """
        sums, rest = tuple(summed), tuple(fetched)
        self._require((*sums, *rest))

        def run(inputs: Mapping[str, Array], weights: Array) -> tuple[list[Array], list[Array]]:
            if self._fixed_batch or np.any(weights != weights[0]):
                # Matrix products take longer than NumPy, and products with all rows longer still.
                return sum_up(self.forward((*sums, *rest)), len(sums))(inputs, weights)
            part = len(sums), len(weights)
            forward = self._cached(
                (sums, rest, ("sums", str(len(weights)))),
                lambda: TensorFlowForwardPass(self._frozen, self._nodes, (*sums, *rest), (), part),
            )
            values = forward(inputs)
            return [rows * rows.dtype.type(weights[0]) for rows in values[: len(sums)]], values[len(sums) :]

        return run

    def segment(self, given: Sequence[str], tensors: Sequence[str], *, side_by_side: bool) -> ForwardPass:
        """Prepares the part of the graph between some tensors and others; see `Runtime.segment`.

        Args:
            given: as of `Runtime.segment`.
            tensors: likewise.
            side_by_side: likewise; it changes nothing here.

        Raises:
            UnknownLayer: as `forward`.
        """
        begin, end = tuple(given), tuple(tensors)
        self._require((*begin, *end))
        return self._cached((begin, end, ("segment",)), lambda: TensorFlowSegment(self._frozen, begin, end))


def _limit_threads(threads: int) -> None:
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        # TensorFlow has started its pool already.
        logger.warning("TensorFlow is running already; it keeps its number of threads instead of %s", threads)
