"""Images in a page."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight_service.report.figures.macros import macro

if TYPE_CHECKING:
    from sidelight import Picture

# matplotlib's cividis at six even steps; its steps are seen as even with every kind of colour vision.
_RAMP = np.array(
    [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]], np.float64
)


def picture(made: Picture) -> Markup:
    """A picture that the server made, PNG."""
    return macro("picture", _data(made.data), made.alternative_text, made.width_pixels)


def coloured_png(values: NDArray[np.float64]) -> str:
    """A matrix as the address of an image, a pixel per cell.

    Args:
        values: (rows, columns), 0 to 1.
    """
    places = np.clip(values, 0, 1) * (len(_RAMP) - 1)
    steps = np.arange(len(_RAMP))
    colours = np.stack([np.interp(places, steps, _RAMP[:, channel]) for channel in range(3)], axis=-1)
    return _data(_png(np.round(colours).astype(np.uint8)))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file (ISO/IEC 15948) of (height, width, 3): each row behind its filter type, 0."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def _data(file: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"
