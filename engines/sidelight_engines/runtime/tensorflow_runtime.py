"""Runs a frozen TensorFlow graph: forward passes with taps, and the import that gradients build on.

Each tuple of fetched tensors becomes one traced function that imports the graph whole; TensorFlow prunes
what the tensors do not need and runs the rest at the speed of the model itself. TensorFlow is imported on use.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from sidelight_engines.errors import InvalidField, UnknownLayer
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.graph.functions import register_functions
from sidelight_engines.runtime.bounds import finite_proofs
from sidelight_engines.runtime.feeds import checked_feed, run_in_chunks
from sidelight_engines.runtime.greatest import with_doubts
from sidelight_engines.runtime.runtime import Array, ForwardPass, Lanes, RuntimeKind, SummingPass, sum_up
from sidelight_engines.runtime.tensorflow_greatest import greatest_values

logger = logging.getLogger(__name__)

# Each traced function may come to hold its own copy of the weights.
_TRACED_FUNCTIONS = 8
# All passes share the threads of the process; a second pass fills the gaps that operations of the first leave.
_LANES = 2


def import_frozen(
    frozen: FrozenGraph,
    inputs: Mapping[str, Any],
    tensors: Sequence[str],
    graph_def: Any = None,
    constants: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Imports a frozen graph into the function that is being traced.

    Everything that one call returns belongs to one copy of the graph, so `tf.gradients` can be taken
    between any two of the tensors.

    Args:
        frozen: the graph.
        inputs: input name -> symbolic tensor to read in its place, for all inputs.
        tensors: names as `FrozenGraph.tensor` takes them, and ``<node>:0`` for constants.
        graph_def: a changed copy of ``frozen.graph_def`` to import in its place: the same nodes, some with
            another backward rule (``_gradient_op_type``).
        constants: tensor name -> symbolic tensor to read in its place, for constants that the graph lacks.

    Returns:
        One symbolic tensor per name, in order.
    """
    import tensorflow as tf

    graph_def = frozen.graph_def if graph_def is None else graph_def
    register_functions(graph_def)
    read = {_tensor(name) for node in graph_def.node for name in node.input}
    given = {frozen.inputs[name]: tensor for name, tensor in inputs.items()} | dict(constants or {})
    wanted = [frozen.tensor(name) for name in tensors]
    imported = tf.graph_util.import_graph_def(
        graph_def,
        # TensorFlow refuses to map what nothing reads.
        input_map={name: tensor for name, tensor in given.items() if name in read},
        return_elements=[name for name in wanted if name not in given],
        name="",
    )
    found = dict(zip([name for name in wanted if name not in given], imported or (), strict=True))
    return [given[name] if name in given else found[name] for name in wanted]


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"


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
        return self._cached(key, lambda: _TensorFlowForwardPass(self._frozen, self._nodes, tensors, greatest))

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
                lambda: _TensorFlowForwardPass(self._frozen, self._nodes, (*sums, *rest), (), part),
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
        return self._cached((begin, end, ("segment",)), lambda: _TensorFlowSegment(self._frozen, begin, end))


class _TensorFlowForwardPass:
    """A forward pass through one traced function."""

    def __init__(
        self,
        frozen: FrozenGraph,
        nodes: Mapping[str, Any],
        tensors: tuple[str, ...],
        greatest: tuple[str, ...] = (),
        sums: tuple[int, int] = (0, 1),
    ) -> None:
        """Traces the function.

        Args:
            frozen: the graph.
            nodes: its nodes by name.
            tensors: what is fetched.
            greatest: tensors of which the greatest values over positions are fetched.
            sums: of how many of `tensors`, from the first, sums over rows are fetched, and of how many rows each.
        """
        import tensorflow as tf

        self._greatest = len(greatest)
        self._names = tuple(frozen.inputs)
        placeholders = [nodes[frozen.inputs[name].partition(":")[0]].attr for name in self._names]
        types = [tf.as_dtype(attr["dtype"].type) for attr in placeholders]
        shapes = [tf.TensorShape(attr["shape"].shape) for attr in placeholders]
        self._types = dict(zip(self._names, types, strict=True))
        self._dtypes = {name: dtype.name for name, dtype in self._types.items()}
        self._shapes = {
            name: None if shape.rank is None else tuple(shape.as_list())
            for name, shape in zip(self._names, shapes, strict=True)
        }
        fixed = [shape[0] for shape in self._shapes.values() if shape and shape[0] is not None]
        self._fixed_batch = fixed[0] if fixed else None

        def compute(*values: Any) -> list[Any]:
            inputs = dict(zip(self._names, values, strict=True))
            found = import_frozen(frozen, inputs, (*tensors, *greatest))
            plain, wanted = found[: len(tensors)], found[len(tensors) :]
            summed = [_sums(value, sums[1]) for value in plain[: sums[0]]]
            pooled = greatest_values(wanted)
            return [*summed, *plain[sums[0] :], *pooled, *finite_proofs(values, wanted, pooled)]

        signature = [tf.TensorSpec(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
        self._function = tf.function(compute, autograph=False, input_signature=signature).get_concrete_function()

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Evaluates the model.

        Args:
            inputs: input name -> array of the input's dtype, axis 0 the batch, the same length in all.

        Returns:
            One read-only array per fetched tensor, in the order in which they were asked for; axis 0 is
            the batch. Then the greatest values that were asked for.

        Raises:
            InvalidField: an input is missing, or has a shape that the model does not take.
        """
        feed = checked_feed(inputs, self._dtypes, self._shapes)
        found = self._run(feed) if self._fixed_batch is None else run_in_chunks(self._run, feed, self._fixed_batch)
        if not self._greatest:
            return found
        first = len(found) - 2 * self._greatest
        greatest, proofs = found[first : -self._greatest], found[-self._greatest :]
        return found[:first] + [with_doubts(*pair) for pair in zip(greatest, proofs, strict=True)]

    def _run(self, feed: Mapping[str, Array]) -> list[Array]:
        import tensorflow as tf

        try:
            fetched = self._function(*(tf.convert_to_tensor(feed[name], self._types[name]) for name in self._names))
        except (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError) as error:
            problem = f"the model can not be run on them: {error.message.partition(chr(10))[0]}"
            raise InvalidField("inputs", problem, "check their shapes") from error
        return [np.asarray(tensor) for tensor in fetched]


class _TensorFlowSegment:
    """A forward pass through a part of a graph."""

    def __init__(self, frozen: FrozenGraph, given: tuple[str, ...], tensors: tuple[str, ...]) -> None:
        import tensorflow as tf

        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(frozen.graph_def, name="")
        begin = [graph.get_tensor_by_name(frozen.tensor(name)) for name in given]
        self._given = given

        def compute(*values: Any) -> list[Any]:
            constants = {tensor.name: value for tensor, value in zip(begin, values, strict=True)}
            return import_frozen(frozen, {}, tensors, constants=constants)

        signature = [tf.TensorSpec(_any_length(tensor.shape), tensor.dtype) for tensor in begin]
        self._function = tf.function(compute, autograph=False, input_signature=signature).get_concrete_function()
        self._types = [tensor.dtype.as_numpy_dtype for tensor in begin]

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Evaluates the part.

        Args:
            inputs: name of a given tensor -> its values, axis 0 the batch.

        Returns:
            One read-only array per fetched tensor, in order.
        """
        import tensorflow as tf

        values = [np.asarray(inputs[name], kind) for name, kind in zip(self._given, self._types, strict=True)]
        return [np.asarray(tensor) for tensor in self._function(*map(tf.convert_to_tensor, values))]


def _sums(tensor: Any, each: int) -> Any:
    """(sums * each, ...) -> (sums, ...)."""
    import tensorflow as tf

    grouped = tf.concat([[-1, each], tf.shape(tensor)[1:]], axis=0)
    return tf.reduce_sum(tf.reshape(tensor, grouped), axis=1)


def _any_length(shape: Any) -> Any:
    """A shape whose first axis has any length."""
    return shape if not shape.rank else [None, *shape.as_list()[1:]]


def _limit_threads(threads: int) -> None:
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        # TensorFlow has started its pool already.
        logger.warning("TensorFlow is running already; it keeps its number of threads instead of %s", threads)
