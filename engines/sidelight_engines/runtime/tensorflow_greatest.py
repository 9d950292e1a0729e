"""The greatest value over positions in a TensorFlow graph, read from the smallest tensor that has it.

A max pool whose windows leave no position out has the greatest value of what it reads, at a quarter of the size; and
max_p relu(x_p) = relu(max_p x_p), so of a convolution and its activation one is enough. Numbers are the same to the
last bit as far as they are finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_ACTIVATIONS = frozenset({"Relu", "Relu6"})


def greatest_values(tensors: Sequence[Any]) -> list[Any]:
    """The greatest value over positions of each channel.

    Args:
        tensors: symbolic, (rows, height, width, channels), of one graph.

    Returns:
        Symbolic, (rows, channels) each; right where the tensor is finite.
    """
    asked = {tensor.ref() for tensor in tensors}
    found: dict[Any, Any] = {}

    def greatest(tensor: Any) -> Any:
        key = tensor.ref()
        if key not in found:
            found[key] = look(tensor)
        return found[key]

    def look(tensor: Any) -> Any:
        import tensorflow as tf

        operation = tensor.op
        if operation.type in _ACTIVATIONS and operation.inputs[0].ref() in asked:
            activation = tf.nn.relu if operation.type == "Relu" else tf.nn.relu6
            return activation(greatest(operation.inputs[0]))
        pools = [consumer for consumer in tensor.consumers() if _covers(consumer)]
        return greatest(pools[0].outputs[0]) if pools else _pool(tensor)

    return [greatest(tensor) for tensor in tensors]


def _covers(operation: Any) -> bool:
    """Whether an operation is a max pool that takes in every position."""
    if operation.type != "MaxPool" or operation.get_attr("data_format") != b"NHWC":
        return False
    padding = operation.get_attr("padding")
    sides = operation.inputs[0].shape
    if sides.rank is None or padding not in (b"SAME", b"VALID"):
        return False
    windows, strides = operation.get_attr("ksize"), operation.get_attr("strides")
    if any(window != 1 for window in (windows[0], windows[3])):
        return False
    for side, window, stride in zip(sides[1:3].as_list(), windows[1:3], strides[1:3], strict=True):
        # Padding to the same makes up for what is left at the end; nothing does for gaps between windows.
        if stride > window or (padding == b"VALID" and (side is None or (side - window) % stride)):
            return False
    return True


def _pool(tensor: Any) -> Any:
    """Reads a tensor; max pooling takes a third of the time of `reduce_max`."""
    import tensorflow as tf

    sides = tensor.shape[1:3]
    if not sides.is_fully_defined():
        return tf.reduce_max(tensor, [1, 2])
    return tf.squeeze(tf.nn.max_pool2d(tensor, sides, 1, "VALID"), [1, 2])
