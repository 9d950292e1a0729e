"""Which rule each operation of a model gets: by a preset's table, or by the caller's map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import Graph
from sidelight_engines.lrp.parameters import (
    LayerPosition,
    Match,
    MatchGlob,
    MatchLayer,
    MatchOp,
    MatchPosition,
    RuleMap,
)
from sidelight_engines.lrp.presets import PRESETS, LrpPreset, Preset
from sidelight_engines.lrp.rules import Norm, Rule
from sidelight_engines.lrp.structure.chains import Chain
from sidelight_engines.lrp.structure.origins import Origins
from sidelight_engines.lrp.structure.view import GraphView


class Assignment:
    """The rules of one model under one request.

    Args:
        method: the preset or the map.
        graph: the model.
        view: its operations.
        chains: name of a linear operation -> what was folded into it.
        origins: where nodes come from.

    Attributes:
        sums: the rule of sums that no entry matches.
        averages: the rule of averages that no entry matches.
    """

    def __init__(
        self,
        method: LrpPreset | RuleMap,
        graph: Graph,
        view: GraphView,
        chains: Mapping[str, Chain],
        origins: Origins,
    ) -> None:
        self._view = view
        self._chains = chains
        self._origins = origins
        self._positions = _positions(view, [chain for chain in chains.values() if chain.map.kind is not None])
        if isinstance(method, LrpPreset):
            self._preset: Preset | None = PRESETS[method]
            self._map = RuleMap()
            self.sums: Norm = self._preset.sums
            self.averages: Rule = self._preset.averages
        else:
            self._preset = None
            self._map = _resolved(method, graph)
            self.sums = self.averages = Norm()
        self._check_entries()

    def rule_of(self, name: str) -> Rule | None:
        """The rule of an operation; None for one without weights that no entry matches."""
        chain = self._chains.get(name)
        if self._preset is not None:
            return None if chain is None or chain.map.kind is None else self._from_preset(self._preset, chain)
        found = next((entry.rule for entry in self._map.entries if self._matches(entry.match, name)), None)
        if found is not None or chain is None or chain.map.kind is None:
            return found
        return self._map.otherwise

    def _from_preset(self, preset: Preset, chain: Chain) -> Rule:
        first = LayerPosition.FIRST in self._positions.get(chain.map.op.name, ())
        return next(
            row.rule
            for row in preset.rows
            if (row.kind is None or row.kind is chain.map.kind) and (first or not row.first)
        )

    def _matches(self, match: Match, name: str) -> bool:
        chain = self._chains.get(name)
        names = [name] if chain is None else [name, *(link.name for link in chain.links)]
        match match:
            case MatchLayer():
                return any(self._origins.layer(each) == match.name for each in names)
            case MatchGlob():
                return any(fnmatchcase(self._origins.layer(each), match.pattern) for each in names)
            case MatchOp():
                return match.op in (self._origins.op(name), self._type_of(name))
            case MatchPosition():
                return match.position in self._positions.get(name, ())

    def _type_of(self, name: str) -> str:
        place = self._view.place.get(name)
        return "" if place is None else str(self._view.order[place].type)

    def _check_entries(self) -> None:
        names = [op.name for op in self._view.order if any(self._view.depends(made) for made in op.outputs)]
        for index, entry in enumerate(self._map.entries):
            if not any(self._matches(entry.match, name) for name in names):
                raise InvalidField(
                    f"parameters.rules.entries[{index}]",
                    f"{_described(entry.match)} matches no operation that relevance passes",
                    "leave it out, or name layers that lead to the output",
                )


def _resolved(rules: RuleMap, graph: Graph) -> RuleMap:
    """The map with layers under the names that the author gave them."""
    entries = []
    for index, entry in enumerate(rules.entries):
        match: Match = entry.match
        if isinstance(match, MatchLayer):
            match = MatchLayer(graph.layer(match.name, f"parameters.rules.entries[{index}].layer").name)
        entries.append(type(entry)(match, entry.rule))
    return RuleMap(tuple(entries), rules.otherwise)


def _described(match: Match) -> str:
    match match:
        case MatchLayer():
            return f"layer {match.name!r}"
        case MatchGlob():
            return f"layer_glob {match.pattern!r}"
        case MatchOp():
            return f"op {match.op!r}"
        case MatchPosition():
            return f"position {match.position.name}"


def _positions(view: GraphView, weighted: Sequence[Chain]) -> dict[str, set[LayerPosition]]:
    """The operations with weights that come before, or after, all others on every way."""
    names = {chain.map.op.name for chain in weighted}
    behind: set[str] = set()
    found: dict[str, set[LayerPosition]] = {name: set() for name in names}
    for op in view.order:
        after = any(tensor.name in behind for tensor in op.inputs)
        if op.name in names and not after:
            found[op.name].add(LayerPosition.FIRST)
        if after or op.name in names:
            behind.update(made.name for made in op.outputs)
    before: set[str] = set()
    for op in reversed(view.order):
        ahead = any(made.name in before for made in op.outputs)
        if op.name in names and not ahead:
            found[op.name].add(LayerPosition.LAST)
        if ahead or op.name in names:
            before.update(tensor.name for tensor in op.inputs)
    return found
