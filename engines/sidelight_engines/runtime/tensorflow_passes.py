"""Forward passes through traced functions. TensorFlow is imported on use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.runtime.bounds import finite_proofs
from sidelight_engines.runtime.feeds import checked_feed, run_in_chunks
from sidelight_engines.runtime.greatest import with_doubts
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.runtime.tensorflow_greatest import greatest_values
from sidelight_engines.runtime.tensorflow_import import import_frozen


class TensorFlowForwardPass:
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


class TensorFlowSegment:
    """A forward pass through a part of a graph.

    Args:
        frozen: the graph.
        given: tensors that are fed.
        tensors: tensors that are fetched.
    """

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
