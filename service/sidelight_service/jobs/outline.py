"""A request as lists of jobs show it: everything but the numbers of its tensors."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message
from sidelight.v1 import tensor_pb2

_Message = TypeVar("_Message", bound=Message)


def outline_of(message: _Message) -> _Message:
    """A copy whose tensors keep their type and shape, and lose their content.

    Args:
        message: any message of the contract; stays as it is.
    """
    outline = type(message)()
    _copy(message, outline)
    return outline


def _copy(source: Message, target: Message) -> None:
    # Field by field, because copying 64 MiB first to drop them then would double the memory that a request takes.
    for descriptor, value in source.ListFields():
        name = descriptor.name
        if descriptor.message_type is None:
            if descriptor.is_repeated:
                getattr(target, name).extend(value)
            else:
                setattr(target, name, value)
        elif descriptor.is_repeated:
            for item in value:
                _copy_message(item, getattr(target, name).add())
        else:
            getattr(target, name).SetInParent()
            _copy_message(value, getattr(target, name))


def _copy_message(source: Message, target: Message) -> None:
    if isinstance(source, tensor_pb2.Tensor) and isinstance(target, tensor_pb2.Tensor):
        target.data_type = source.data_type
        target.shape.extend(source.shape)
    else:
        _copy(source, target)
