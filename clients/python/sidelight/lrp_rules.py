"""Rules of relevance propagation as a caller writes them, in Python and in JSON alike.

A rule is a name, ``"epsilon"``, or a mapping with the name and numbers, ``{"rule": "gamma", "gamma": 0.5}``. A list of
rules says which operations each is for: ``{"op": "Conv", "rule": "alpha-beta", "alpha": 2}``; the first that matches
counts, and one that names no operations, which must be the last, is for all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from sidelight.errors import InvalidArgument
from sidelight.v1 import lrp_pb2

RuleOption = str | Mapping[str, Any]

_KINDS = {field.name.replace("_", "-"): field for field in lrp_pb2.LrpRule.DESCRIPTOR.oneofs_by_name["kind"].fields}
_MATCHES = ("layer", "layer_glob", "op", "position")
_POSITIONS = {"first": lrp_pb2.LAYER_POSITION_FIRST, "last": lrp_pb2.LAYER_POSITION_LAST}


def rule_map(rules: RuleOption | Sequence[RuleOption]) -> lrp_pb2.LrpRuleMap:
    """Writes rules.

    Args:
        rules: one rule for all operations with weights, or a list of them.

    Raises:
        InvalidArgument: they can not be read.
    """
    listed = [rules] if isinstance(rules, str | Mapping) else list(rules)
    if not listed:
        raise InvalidArgument("rules is empty; give at least one, or leave it out for the server's default")
    written = lrp_pb2.LrpRuleMap()
    for position, given in enumerate(listed):
        where = "rules" if listed is rules or len(listed) == 1 else f"rules[{position}]"
        option = {"rule": given} if isinstance(given, str) else dict(given)
        matches = [name for name in _MATCHES if name in option]
        if len(matches) > 1:
            raise InvalidArgument(f"{where} has {' and '.join(matches)}; give one of them per rule")
        if matches:
            _write_entry(written.entries.add(), matches[0], option, where)
        elif position < len(listed) - 1:
            raise InvalidArgument(
                f"{where} is for all operations, so that no rule behind it is ever used; put it last, or add one of "
                f"{', '.join(_MATCHES)}"
            )
        else:
            written.otherwise.CopyFrom(rule_message(option, where))
    return written


def parse_rule(text: str) -> dict[str, Any]:
    """Reads a rule on one line: ``alpha-beta,alpha=2,beta=1``.

    Raises:
        InvalidArgument: it can not be read.
    """
    name, *settings = text.split(",")
    option: dict[str, Any] = {"rule": name.strip()}
    for setting in settings:
        key, found, value = setting.partition("=")
        key = key.strip().replace("-", "_")
        if key == "ignore_bias" and not found:
            option[key] = True
            continue
        try:
            option[key] = float(value)
        except ValueError:
            raise InvalidArgument(
                f"{setting.strip()!r} in the rule {text!r} is no setting; write name=number, or ignore-bias"
            ) from None
    return option


def rule_message(option: Mapping[str, Any], where: str) -> lrp_pb2.LrpRule:
    """Writes one rule, whatever it is for.

    Args:
        option: the name under "rule", and numbers by name.
        where: what the caller calls it, for errors.

    Raises:
        InvalidArgument: there is no such rule, or it has no such number.
    """
    name = option.get("rule")
    field = _KINDS.get(name.replace("_", "-")) if isinstance(name, str) else None
    if field is None:
        raise InvalidArgument(f"{where}: {name!r} is no rule; give one of {', '.join(_KINDS)}")
    rule = lrp_pb2.LrpRule(ignore_bias=bool(option.get("ignore_bias", False)))
    kind: Message = getattr(rule, field.name)
    kind.SetInParent()
    known = [number.name for number in kind.DESCRIPTOR.fields]
    for key, value in option.items():
        if key in ("rule", "ignore_bias", *_MATCHES):
            continue
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InvalidArgument(f"{where}: the rule {name!r} has no number {key!r}; {has}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidArgument(f"{where}: {key} is {value!r}; give a number")
        setattr(kind, key, value)
    return rule


def _write_entry(entry: lrp_pb2.LrpRuleEntry, match: str, option: Mapping[str, Any], where: str) -> None:
    value = option[match]
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"{where}: {match} is {value!r}; give a text")
    if match == "position":
        if value not in _POSITIONS:
            raise InvalidArgument(f"{where}: position is {value!r}; give 'first' or 'last'")
        entry.position = _POSITIONS[value]
    else:
        setattr(entry, match, value)
    entry.rule.CopyFrom(rule_message(option, where))
