"""Pictures: what a request asks for, and what goes back."""

from __future__ import annotations

from dataclasses import dataclass

from sidelight.v1 import explanation_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.pictures import Picture, PictureFormat

_FORMATS: dict[int, PictureFormat] = {
    explanation_pb2.PICTURE_FORMAT_PNG: "png",
    explanation_pb2.PICTURE_FORMAT_SVG: "svg",
}
_WIDTHS = (160, 4096)
_INSTANCES = (1, 64)


@dataclass(frozen=True)
class Rendering:
    """How pictures are wanted.

    Attributes:
        format: of the files.
        width_pixels: of each picture.
        max_instances: to draw, where a picture shows instances.
        dark: light on dark.
    """

    format: PictureFormat
    width_pixels: int = 960
    max_instances: int = 16
    dark: bool = False


def rendering_from_proto(wire: explanation_pb2.RenderOptions) -> Rendering | None:
    """Reads what is asked for; None for no pictures.

    Raises:
        InvalidField: a value is out of its limits.
    """
    for field, value, (low, high) in (
        ("width_pixels", wire.width_pixels, _WIDTHS),
        ("max_instances", wire.max_instances, _INSTANCES),
    ):
        if value and not low <= value <= high:
            raise InvalidField(f"render.{field}", f"{value} is outside {low} to {high}", "give one within, or none")
    if wire.format == explanation_pb2.PICTURE_FORMAT_UNSPECIFIED:
        return None
    if wire.format not in _FORMATS:
        raise InvalidField("render.format", f"{wire.format} is not a value of it", "give PNG or SVG")
    given = {name: value for name in ("width_pixels", "max_instances") if (value := getattr(wire, name))}
    return Rendering(_FORMATS[wire.format], dark=wire.dark, **given)


def picture_to_proto(picture: Picture) -> explanation_pb2.Picture:
    """Writes a picture."""
    return explanation_pb2.Picture(
        name=picture.name,
        format=next(wire for wire, name in _FORMATS.items() if name == picture.format),  # type: ignore[arg-type]
        data=picture.data,
        width_pixels=picture.width_pixels,
        height_pixels=picture.height_pixels,
        alternative_text=picture.alternative_text,
    )
