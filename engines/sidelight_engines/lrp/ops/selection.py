"""Operations that take one of two values at each place: relevance goes to the one that was taken."""

from __future__ import annotations

from sidelight_engines.lrp.ops.movement import counted
from sidelight_engines.lrp.ops.registry import entry
from sidelight_engines.lrp.walk.node import Contributions, Node


@entry("Select", "SelectV2")
def select(node: Node) -> Contributions:
    """By the condition; what constants gave is sink."""
    return counted(node, "sink")


@entry("Maximum", "Minimum")
def winner(node: Node) -> Contributions:
    """The winner takes all, the first of equals; what constants gave is sink."""
    node.apply("winner_takes_all")
    return counted(node, "sink")
