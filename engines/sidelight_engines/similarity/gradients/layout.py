"""How the gradients of one example are laid out: blocks of factors, each smaller than what it stands for.

A block holds the gradients of one or more parameters in one of three forms:

    VECTOR  one field: the gradients themselves, one after the other
    OUTER   two fields, u (positions * m) and d (positions * n): G = sum_t u_t d_t'; the gradient of a bias
            behind it is sum_t d_t, so it needs no numbers of its own
    LOOKUP  two fields, whole numbers id (positions) and d (positions * n): G = sum_t e(id_t) d_t'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any


class BlockKind(Enum):
    """The form of a block."""

    VECTOR = "vector"
    OUTER = "outer"
    LOOKUP = "lookup"


@dataclass(frozen=True)
class Part:
    """A parameter's share of a block.

    Attributes:
        parameter: its position among the layout's parameters.
        size: VECTOR: how many numbers its gradient takes; else 0.
    """

    parameter: int
    size: int = 0


@dataclass(frozen=True)
class Block:
    """Gradients in one form.

    Attributes:
        kind: the form.
        parts: VECTOR: the parameters in order. OUTER: the matrix, then its bias if there is one. LOOKUP: the table.
        left: VECTOR: numbers in all. OUTER: m. LOOKUP: rows of the table.
        right: OUTER and LOOKUP: n; else 0.
        positions: of the examples that the layout was made for; 1 for VECTOR.
        by_row: whether gradients come from passes over one example at a time.
    """

    kind: BlockKind
    parts: tuple[Part, ...]
    left: int
    right: int = 0
    positions: int = 1
    by_row: bool = False

    @property
    def field_widths(self) -> tuple[int, ...]:
        """The numbers per example of each of its fields."""
        if self.kind is BlockKind.VECTOR:
            return (self.left,)
        if self.kind is BlockKind.OUTER:
            return (self.positions * self.left, self.positions * self.right)
        return (self.positions, self.positions * self.right)

    @property
    def has_bias(self) -> bool:
        """Whether an OUTER block also holds the gradient of a bias."""
        return self.kind is BlockKind.OUTER and len(self.parts) > 1


@dataclass(frozen=True)
class Parameter:
    """A learned constant whose gradient is kept.

    Attributes:
        name: of its Const node.
        layer: the layer it belongs to.
        size: how many numbers it holds.
    """

    name: str
    layer: str
    size: int


@dataclass(frozen=True)
class Layout:
    """How the gradients of one example are laid out.

    Attributes:
        parameters: whose gradients are kept, in the order of evaluation.
        blocks: in the order of their first parameters, those that come row by row last.
        materialised_layers: layers whose gradients could not be factored, because a parameter is used twice or an
            operation is not known.
    """

    parameters: tuple[Parameter, ...]
    blocks: tuple[Block, ...]
    materialised_layers: tuple[str, ...] = ()

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, in the order of evaluation."""
        return tuple(dict.fromkeys(parameter.layer for parameter in self.parameters))

    @cached_property
    def layer_of(self) -> tuple[int, ...]:
        """For each parameter, the position of its layer."""
        positions = {name: i for i, name in enumerate(self.layers)}
        return tuple(positions[parameter.layer] for parameter in self.parameters)

    @cached_property
    def first_fields(self) -> tuple[int, ...]:
        """For each block, the position of its first field."""
        starts, start = [], 0
        for block in self.blocks:
            starts.append(start)
            start += len(block.field_widths)
        return tuple(starts)

    @cached_property
    def field_widths(self) -> tuple[int, ...]:
        """The numbers per example of every field."""
        return tuple(width for block in self.blocks for width in block.field_widths)

    @cached_property
    def field_is_ids(self) -> tuple[bool, ...]:
        """For every field, whether it holds whole numbers."""
        return tuple(
            block.kind is BlockKind.LOOKUP and position == 0
            for block in self.blocks
            for position in range(len(block.field_widths))
        )

    @property
    def values_per_example(self) -> int:
        """The numbers kept per example, without the scales of their rows."""
        return sum(self.field_widths)


def layout_to_json(layout: Layout) -> dict[str, Any]:
    """The layout as `json` can write it."""
    return {
        "parameters": [
            {"name": parameter.name, "layer": parameter.layer, "size": parameter.size}
            for parameter in layout.parameters
        ],
        "blocks": [
            {
                "kind": block.kind.value,
                "parts": [[part.parameter, part.size] for part in block.parts],
                "left": block.left,
                "right": block.right,
                "positions": block.positions,
                "by_row": block.by_row,
            }
            for block in layout.blocks
        ],
        "materialised_layers": list(layout.materialised_layers),
    }


def layout_from_json(read: Mapping[str, Any]) -> Layout:
    """The layout that `layout_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: it did not.
    """
    blocks: Sequence[Mapping[str, Any]] = read["blocks"]
    return Layout(
        tuple(Parameter(str(p["name"]), str(p["layer"]), int(p["size"])) for p in read["parameters"]),
        tuple(
            Block(
                BlockKind(block["kind"]),
                tuple(Part(int(parameter), int(size)) for parameter, size in block["parts"]),
                int(block["left"]),
                int(block["right"]),
                int(block["positions"]),
                bool(block["by_row"]),
            )
            for block in blocks
        ),
        tuple(str(name) for name in read["materialised_layers"]),
    )
