"""What `Client.lrp` takes, and how it is written into a request.

A field is sent only when the caller gave it, so each default is stated once: by the server.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints

import numpy as np
from numpy.typing import ArrayLike

from sidelight.arrays import to_array, to_tensor
from sidelight.errors import InvalidArgument
from sidelight.lrp_rules import RuleOption, rule_map
from sidelight.selection import parse_model
from sidelight.v1 import explanation_pb2, lrp_pb2
from sidelight.words import choose

_Function = TypeVar("_Function", bound=Callable[..., Any])


class LrpOptions(TypedDict, total=False):
    """The options of `Client.lrp`, which describes them; None is the same as not given."""

    preset: str | None
    rules: RuleOption | Sequence[RuleOption] | None
    gradient: str | None
    samples: int | None
    noise: float | None
    baseline: ArrayLike | None
    input_range: Sequence[ArrayLike] | None
    classes: int | Sequence[int] | None
    class_per_instance: Sequence[int] | None
    relevance: ArrayLike | None
    output: str | None
    value: str | None
    layers: str | Sequence[str] | None
    empty_branch: str | None
    fallback: str | None
    attention: str | None
    pixel_flipping_steps: int | None
    random_logit: bool | None
    seed: int | None
    first_instance: int | None
    picture: str | None
    picture_width: int | None
    picture_instances: int | None
    picture_dark: bool | None


def shows_lrp_options(function: _Function) -> _Function:
    """Puts the options in the place of ``**options`` in a function's signature, for help() and editors."""
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in get_type_hints(LrpOptions).items()
    ]
    vars(function)["__signature__"] = signature.replace(parameters=kept + options)
    return function


def lrp_request(model: str, options: LrpOptions) -> lrp_pb2.ExplainLrpRequest:
    """Writes everything but the instances.

    Raises:
        InvalidArgument: a value can not be sent, or options exclude each other.
        TypeError: an option that does not exist.
    """
    unknown = options.keys() - LrpOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"lrp() got an unexpected keyword argument {min(unknown)!r}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    parameters = lrp_pb2.LrpParameters()
    _write_method(parameters, given)
    _write_range(parameters, given)
    _write_target(parameters.target, given)
    for name, enum in (
        ("empty_branch", lrp_pb2.EmptyBranchPolicy.DESCRIPTOR),
        ("fallback", lrp_pb2.LrpFallback.DESCRIPTOR),
        ("attention", lrp_pb2.AttentionRule.DESCRIPTOR),
    ):
        if name in given:
            setattr(parameters, name, choose(enum, _spelled(given[name]), name))
    layers = given.get("layers")
    if layers == "all":
        parameters.layers.all = True
    elif layers:
        parameters.layers.names.extend([layers] if isinstance(layers, str) else layers)
    if given.get("pixel_flipping_steps"):
        parameters.quality.pixel_flipping_steps = given["pixel_flipping_steps"]
    if given.get("random_logit"):
        parameters.quality.random_logit = True
    if "seed" in given:
        _require_natural("seed", given["seed"])
        # It is of whatever in the call is random.
        parameters.quality.seed = given["seed"]
        if parameters.HasField("gradient"):
            parameters.gradient.seed = given["seed"]
    if "first_instance" in given:
        _require_natural("first_instance", given["first_instance"])
        parameters.first_instance = given["first_instance"]
    request = lrp_pb2.ExplainLrpRequest(model=parse_model(model), parameters=parameters)
    _write_render(request, given)
    return request


def _write_method(parameters: lrp_pb2.LrpParameters, given: Mapping[str, Any]) -> None:
    ways = [name for name in ("preset", "rules", "gradient") if name in given]
    if len(ways) > 1:
        raise InvalidArgument(f"{' and '.join(ways)} exclude each other; give one of them")
    if "gradient" in given:
        kind = choose(lrp_pb2.GradientKind.DESCRIPTOR, _spelled(given["gradient"]), "gradient")
        parameters.gradient.kind = kind
        for name in ("samples", "noise"):
            if name in given:
                setattr(parameters.gradient, name, given[name])
        if "baseline" in given:
            parameters.gradient.baseline.CopyFrom(to_tensor(to_array(given["baseline"], "baseline"), "baseline"))
        return
    alone = [name for name in ("samples", "noise", "baseline") if name in given]
    if alone:
        raise InvalidArgument(
            f"{', '.join(alone)} can not go without gradient=: they shape a gradient method; drop them"
        )
    if "rules" in given:
        parameters.rules.CopyFrom(rule_map(given["rules"]))
    elif "preset" in given:
        parameters.preset = choose(lrp_pb2.LrpPreset.DESCRIPTOR, _published(given["preset"]), "preset")


def _write_range(parameters: lrp_pb2.LrpParameters, given: Mapping[str, Any]) -> None:
    if "input_range" not in given:
        return
    pair = given["input_range"]
    if len(pair) != 2:
        raise InvalidArgument("input_range is not a pair; give (least, greatest), each one number or one instance")
    for name, value in zip(("input_minimum", "input_maximum"), pair, strict=True):
        array = to_array(value, f"{name} of input_range")
        getattr(parameters, name).CopyFrom(to_tensor(array, f"{name} of input_range"))


def _write_target(target: lrp_pb2.LrpTarget, given: Mapping[str, Any]) -> None:
    ways = [name for name in ("classes", "class_per_instance", "relevance") if name in given]
    if len(ways) > 1:
        raise InvalidArgument(f"{' and '.join(ways)} exclude each other; give one of them")
    if "classes" in given:
        target.classes.indices.extend(_whole("classes", given["classes"]))
    elif "class_per_instance" in given:
        target.class_per_instance.indices.extend(_whole("class_per_instance", given["class_per_instance"]))
    elif "relevance" in given:
        target.relevance.CopyFrom(to_tensor(to_array(given["relevance"], "relevance"), "relevance"))
    if "output" in given:
        target.output = given["output"]
    if "value" in given:
        target.value = choose(lrp_pb2.TargetValue.DESCRIPTOR, _spelled(given["value"]), "value")


def _write_render(request: lrp_pb2.ExplainLrpRequest, given: Mapping[str, Any]) -> None:
    if "picture" not in given:
        return
    request.render.format = choose(explanation_pb2.PictureFormat.DESCRIPTOR, given["picture"], "picture")
    for option, name in (
        ("picture_width", "width_pixels"),
        ("picture_instances", "max_instances"),
        ("picture_dark", "dark"),
    ):
        if option in given:
            setattr(request.render, name, given[option])


def _whole(what: str, value: Any) -> list[int]:
    array = np.atleast_1d(to_array(value, what))
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or array.size == 0:
        raise InvalidArgument(f"{what} is {value!r}; give a class index from 0, or a list of them")
    return [int(index) for index in array]


def _require_natural(what: str, value: int) -> None:
    if value < 0:
        raise InvalidArgument(f"{what} is {value}; give a whole number of at least 0")


def _spelled(word: str) -> str:
    return word.replace("_", "-").lower()


def _published(name: str) -> str:
    """The word for a preset under its published name too, such as ``EpsilonPlusFlat`` or ``SequentialPresetA``."""
    squeezed = name.replace("-", "").replace("_", "").lower().replace("preset", "")
    for value in lrp_pb2.LrpPreset.DESCRIPTOR.values[1:]:
        word = value.name.removeprefix("LRP_PRESET_").lower()
        if word.replace("_", "") == squeezed:
            return word.replace("_", "-")
    return name
