"""What travels between the front process and a worker: a JSON header and a payload of bytes.

Both ends are ours and on one machine; still nothing is unpickled.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

_LENGTHS = struct.Struct("<IQ")


@dataclass(frozen=True)
class Frame:
    """One message.

    Attributes:
        header: small and plain: strings, numbers, lists.
        payload: a serialized protobuf message, or nothing.
    """

    header: Mapping[str, Any] = field(default_factory=dict)
    payload: bytes = b""


def pack(frame: Frame) -> tuple[bytes, bytes]:
    """The bytes of a frame: everything before the payload, and the payload itself, uncopied."""
    header = json.dumps(frame.header, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(header), len(frame.payload)) + header, frame.payload


def read(stream: BinaryIO) -> Frame:
    """Reads a frame, blocking.

    Raises:
        EOFError: the other end is gone.
    """
    header_length, payload_length = _LENGTHS.unpack(_read_exactly(stream, _LENGTHS.size))
    header = json.loads(_read_exactly(stream, header_length))
    return Frame(header, _read_exactly(stream, payload_length))


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other end of the pipe is gone")
    return data


async def read_async(stream: asyncio.StreamReader) -> Frame:
    """Reads a frame.

    Raises:
        asyncio.IncompleteReadError: the other end is gone (it is an EOFError).
    """
    header_length, payload_length = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
    header = json.loads(await stream.readexactly(header_length))
    return Frame(header, await stream.readexactly(payload_length))
