"""Layer-wise relevance propagation: protobuf to the engine's dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.message import Message
from sidelight.v1 import lrp_pb2, tensor_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.lrp import (
    AlphaBeta,
    AlphaBetaX,
    AttentionRule,
    Classes,
    ClassPerInstance,
    EmptyBranchPolicy,
    Epsilon,
    Flat,
    Gamma,
    GivenRelevance,
    GradientKind,
    GradientMethod,
    LayerPosition,
    LayerSelection,
    LrpFallback,
    LrpParameters,
    LrpPreset,
    LrpTarget,
    MatchGlob,
    MatchLayer,
    MatchOp,
    MatchPosition,
    Norm,
    Pass,
    PlainGradient,
    QualityOptions,
    Rule,
    RuleEntry,
    RuleMap,
    Sign,
    TargetValue,
    WSquare,
    ZBox,
)

from sidelight_service.convert.linearity import enum_from_proto
from sidelight_service.convert.tensors import Array, tensor_to_array

_PARAMETERS = "parameters"
_Kind = TypeVar("_Kind", bound=Enum)

_RULES: Mapping[str, type[Any]] = {
    "epsilon": Epsilon,
    "gamma": Gamma,
    "alpha_beta": AlphaBeta,
    "alpha_beta_x": AlphaBetaX,
    "w_square": WSquare,
    "flat": Flat,
    "z_box": ZBox,
    "sign": Sign,
    "pass": Pass,
    "norm": Norm,
    "plain_gradient": PlainGradient,
}
"""By the field of LrpRule; the fields of each message are attributes of the same name."""


def parameters_from_proto(wire: lrp_pb2.LrpParameters) -> LrpParameters:
    """Reads the parameters; what the request leaves out takes the engine's default.

    Raises:
        InvalidField: something is missing or malformed. Limits are the engine's to check.
    """
    given: dict[str, Any] = {}
    if (method := _method(wire)) is not None:
        given["method"] = method
    for name in ("input_minimum", "input_maximum"):
        if wire.HasField(name):
            given[name] = tensor_to_array(getattr(wire, name), f"{_PARAMETERS}.{name}", "float64")
    for name, kind in (
        ("empty_branch", EmptyBranchPolicy),
        ("fallback", LrpFallback),
        ("attention", AttentionRule),
    ):
        if (member := _member(wire, name, kind, _PARAMETERS)) is not None:
            given[name] = member
    if wire.layers.all and wire.layers.names:
        raise InvalidField(f"{_PARAMETERS}.layers.names", "is given although `all` is set", "give one of the two")
    if wire.first_instance < 0:
        raise InvalidField(f"{_PARAMETERS}.first_instance", f"is {wire.first_instance}", "give a position from 0")
    return LrpParameters(
        **given,
        target=_target(wire.target),
        layers=LayerSelection(tuple(wire.layers.names), everything=wire.layers.all),
        quality=QualityOptions(
            pixel_flipping_steps=wire.quality.pixel_flipping_steps,
            random_logit=wire.quality.random_logit,
            seed=wire.quality.seed,
            first_instance=wire.first_instance,
        ),
    )


def _method(wire: lrp_pb2.LrpParameters) -> LrpPreset | RuleMap | GradientMethod | None:
    which = wire.WhichOneof("method")
    if which is None:
        return None
    if which == "preset":
        return _member(wire, "preset", LrpPreset, _PARAMETERS)
    if which == "rules":
        return _rule_map(wire.rules, f"{_PARAMETERS}.rules")
    return _gradient(wire.gradient, wire.first_instance, f"{_PARAMETERS}.gradient")


def _rule_map(wire: lrp_pb2.LrpRuleMap, field: str) -> RuleMap:
    entries = tuple(_entry(entry, f"{field}.entries[{position}]") for position, entry in enumerate(wire.entries))
    if not wire.HasField("otherwise"):
        return RuleMap(entries)
    return RuleMap(entries, _rule(wire.otherwise, f"{field}.otherwise"))


def _entry(wire: lrp_pb2.LrpRuleEntry, field: str) -> RuleEntry:
    which = wire.WhichOneof("match")
    if which is None:
        raise InvalidField(f"{field}.match", "is not set", "set layer, layer_glob, op or position")
    if not wire.HasField("rule"):
        raise InvalidField(f"{field}.rule", "is not set", "give the rule of what the entry matches")
    rule = _rule(wire.rule, f"{field}.rule")
    if which == "position":
        position = _member(wire, "position", LayerPosition, field)
        if position is None:
            raise InvalidField(f"{field}.position", "is unspecified", "give FIRST or LAST")
        return RuleEntry(MatchPosition(position), rule)
    text: str = getattr(wire, which)
    if not text:
        raise InvalidField(f"{field}.{which}", "is empty", "give a name or a pattern")
    if which == "layer":
        return RuleEntry(MatchLayer(text), rule)
    return RuleEntry(MatchGlob(text) if which == "layer_glob" else MatchOp(text), rule)


def _rule(wire: lrp_pb2.LrpRule, field: str) -> Rule:
    which = wire.WhichOneof("kind")
    if which is None:
        raise InvalidField(f"{field}.kind", "is not set", f"set one of {', '.join(_RULES)}")
    kind = _RULES[which]
    message: Message = getattr(wire, which)
    given = {descriptor.name: value for descriptor, value in message.ListFields()}
    if kind is AlphaBeta:
        alpha = given.get("alpha", AlphaBeta.alpha)
        given.setdefault("beta", alpha - 1)
    # A rule that never has a bias leaves it out anyway.
    if any(attribute.name == "ignore_bias" for attribute in dataclass_fields(kind)):
        given["ignore_bias"] = wire.ignore_bias
    rule: Rule = kind(**given)
    return rule


def _gradient(wire: lrp_pb2.GradientMethod, first_instance: int, field: str) -> GradientMethod:
    kind = _member(wire, "kind", GradientKind, field)
    if kind is None:
        raise InvalidField(f"{field}.kind", "is not set", "give the kind of gradient method")
    given: dict[str, Any] = {name: getattr(wire, name) for name in ("samples", "noise") if wire.HasField(name)}
    if wire.HasField("baseline"):
        given["baseline"] = tensor_to_array(wire.baseline, f"{field}.baseline", "float64")
    return GradientMethod(kind=kind, seed=wire.seed, first_instance=first_instance, **given)


def _target(wire: lrp_pb2.LrpTarget) -> LrpTarget:
    field = f"{_PARAMETERS}.target"
    given: dict[str, Any] = {}
    if (value := _member(wire, "value", TargetValue, field)) is not None:
        given["value"] = value
    return LrpTarget(what=_what(wire, field), output=wire.output, **given)


def _what(wire: lrp_pb2.LrpTarget, field: str) -> Classes | ClassPerInstance | GivenRelevance | None:
    which = wire.WhichOneof("what")
    if which is None:
        return None
    if which == "relevance":
        return GivenRelevance(_values(wire.relevance, f"{field}.relevance"))
    indices = tuple(getattr(wire, which).indices)
    if not indices:
        raise InvalidField(f"{field}.{which}.indices", "is empty", "give at least one class")
    return Classes(indices) if which == "classes" else ClassPerInstance(indices)


def _values(wire: tensor_pb2.Tensor, field: str) -> Array:
    return tensor_to_array(wire, field, "float64")


def _member(wire: Message, name: str, kind: type[_Kind], field: str) -> _Kind | None:
    """The engine's member for an enum field; None where the caller leaves the choice to the default."""
    descriptor: Any = wire.DESCRIPTOR.fields_by_name[name].enum_type
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    found = enum_from_proto(getattr(wire, name), prefix, descriptor, kind, f"{field}.{name}")
    return None if found is None else kind(found)
