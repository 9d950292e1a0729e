"""A node of a model file in the one form that naming, affinity and head detection read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TensorType:
    """What the file tells of a tensor.

    Attributes:
        dtype: a NumPy type name; empty if the file does not tell.
        shape: length of each axis, None where it is free; None if the file does not tell.
    """

    dtype: str = ""
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Step:
    """One operation of a model.

    Attributes:
        name: the node's name in the file; unique.
        op: the operation (TensorFlow's or ONNX's own name for it).
        inputs: names of the tensors it reads, in order; "" where an optional one is left out. No control
            inputs.
        outputs: names of the tensors it makes, in order.
        types: tensor name -> what is known of it, for `outputs`.
        attributes: what the file sets, by its own names, of what changes which function the operation is:
            ``is_training`` and ``training_mode`` of batch normalisation, ``post_transform`` of ONNX's linear
            models. One that is not set has the operation's default.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType] = field(default_factory=dict)
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
