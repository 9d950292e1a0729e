"""Checks what a caller gave, and resolves what it left open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from sidelight_engines.errors import InvalidField
from sidelight_engines.lrp.parameters import (
    Classes,
    ClassPerInstance,
    GivenRelevance,
    GradientMethod,
    LrpParameters,
    QualityOptions,
    RuleMap,
    TargetValue,
)
from sidelight_engines.lrp.presets import PRESETS
from sidelight_engines.lrp.rules import AlphaBeta, AlphaBetaX, Rule, ZBox
from sidelight_engines.lrp.structure.prepared import PreparedGraph
from sidelight_engines.runtime.feeds import checked_feed
from sidelight_engines.runtime.runtime import Array

_MOST_SAMPLES = 4096
_MOST_STEPS = 1000
_SEEDS = 2**64


def checked_inputs(prepared: PreparedGraph, inputs: Mapping[str, Array], field: str) -> dict[str, Array]:
    """The inputs that the explained output needs, as the graph wants them, and those that it does not need.

    Raises:
        InvalidField: one is missing, has a wrong shape or holds NaN or infinity, or they differ in length.
    """
    try:
        feed = checked_feed(inputs, prepared.dtypes, prepared.shapes)
    except InvalidField as error:
        # It knows the inputs by their names alone.
        raise InvalidField(error.field.replace("inputs", field, 1), error.problem, error.remedy) from error
    for name, array in feed.items():
        if array.dtype == object:
            raise InvalidField(f"{field}.{name}", "it holds text, which carries no relevance", "use a numeric model")
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            rows = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
            raise InvalidField(f"{field}.{name}", f"instance {rows[0]} holds NaN or infinity", "give finite numbers")
    return feed


def check_parameters(parameters: LrpParameters) -> None:
    """Checks what hangs on no model.

    Raises:
        InvalidField: a value is not one that may be given.
    """
    method = parameters.method
    if isinstance(method, RuleMap):
        for index, entry in enumerate(method.entries):
            _check_rule(entry.rule, f"parameters.rules.entries[{index}].rule")
        _check_rule(method.otherwise, "parameters.rules.otherwise")
    elif isinstance(method, GradientMethod):
        _check_gradient(method)
    _check_quality(parameters.quality)
    if parameters.layers.everything and parameters.layers.names:
        raise InvalidField("parameters.layers.names", "it names layers and asks for all", "do one of both")
    if isinstance(parameters.target.what, GivenRelevance) and parameters.quality.random_logit:
        raise InvalidField(
            "parameters.quality.random_logit", "the relevance that was given is of no class", "explain a class"
        )
    if isinstance(parameters.target.what, GivenRelevance) and parameters.quality.pixel_flipping_steps:
        raise InvalidField(
            "parameters.quality.pixel_flipping_steps", "the relevance that was given is of no class", "explain a class"
        )


def _check_rule(rule: Rule, path: str) -> None:
    for part in fields(rule):
        value = getattr(rule, part.name)
        if isinstance(value, bool) or value is None:
            continue
        where = f"{path}.{part.name}"
        if not math.isfinite(value):
            raise InvalidField(where, f"it is {value}", "give a finite number")
        if part.name in ("epsilon", "gamma") and value < 0:
            raise InvalidField(where, f"it is {value:g}", "give at least 0")
    if isinstance(rule, AlphaBeta):
        if rule.alpha < 1:
            raise InvalidField(f"{path}.alpha", f"it is {rule.alpha:g}", "give at least 1")
        if not math.isclose(rule.alpha - rule.beta, 1, rel_tol=0, abs_tol=1e-6 * rule.alpha):
            problem = f"alpha {rule.alpha:g} - beta {rule.beta:g} is not 1, so that relevance would not be conserved"
            raise InvalidField(f"{path}.beta", problem, "give alpha - 1")
    weights = [getattr(rule, part.name) for part in fields(rule) if part.name.startswith(("alpha_", "beta_"))]
    if isinstance(rule, AlphaBetaX) and not any(weights):
        raise InvalidField(f"{path}.alpha_positive_input", "all four weights are 0", "give one that is not")
    if isinstance(rule, ZBox) and rule.low is not None and rule.high is not None and rule.low > rule.high:
        raise InvalidField(f"{path}.low", f"it is {rule.low:g}, above high {rule.high:g}", "give low at most high")


def _check_gradient(method: GradientMethod) -> None:
    if not 2 <= method.samples <= _MOST_SAMPLES:
        raise InvalidField("parameters.gradient.samples", f"it is {method.samples}", f"give 2 to {_MOST_SAMPLES:,}")
    if not (math.isfinite(method.noise) and 0 < method.noise <= 10):
        raise InvalidField("parameters.gradient.noise", f"it is {method.noise:g}", "give a number above 0, at most 10")
    if not 0 <= method.seed < _SEEDS:
        raise InvalidField("parameters.gradient.seed", f"it is {method.seed}", "give 0 to 2^64 - 1")
    if method.baseline is not None and not np.isfinite(method.baseline).all():
        raise InvalidField("parameters.gradient.baseline", "it holds NaN or infinity", "give finite numbers")


def _check_quality(quality: QualityOptions) -> None:
    if not 0 <= quality.pixel_flipping_steps <= _MOST_STEPS:
        problem = f"it is {quality.pixel_flipping_steps}"
        raise InvalidField("parameters.quality.pixel_flipping_steps", problem, f"give 0 to {_MOST_STEPS:,}")
    if not 0 <= quality.seed < _SEEDS:
        raise InvalidField("parameters.quality.seed", f"it is {quality.seed}", "give 0 to 2^64 - 1")


def resolved_box(parameters: LrpParameters, prepared: PreparedGraph) -> dict[str, tuple[Array, Array]] | None:
    """Input name -> least and greatest value; None where no rule reads them.

    Raises:
        InvalidField: they are missing though the preset needs them, do not fit the input, or are given without need.
    """
    method = parameters.method
    minimum, maximum = parameters.input_minimum, parameters.input_maximum
    if isinstance(method, GradientMethod):
        needed = used = False
    elif isinstance(method, RuleMap):
        rules = [*(entry.rule for entry in method.entries), method.otherwise]
        boxes = [rule for rule in rules if isinstance(rule, ZBox)]
        used, needed = bool(boxes), any(rule.low is None or rule.high is None for rule in boxes)
    else:
        used = needed = PRESETS[method].box
    for name, value in (("input_minimum", minimum), ("input_maximum", maximum)):
        if value is not None and not needed:
            raise InvalidField(f"parameters.{name}", "no rule of this request reads it", "leave it out")
        if value is None and needed:
            raise InvalidField(
                f"parameters.{name}", "it is missing, and a z-box needs it", "give a scalar or one instance"
            )
    if not used:
        return None
    low = _fitting(0.0 if minimum is None else minimum, prepared, "input_minimum")
    high = _fitting(0.0 if maximum is None else maximum, prepared, "input_maximum")
    for name in low:
        if np.any(low[name] > high[name]):
            raise InvalidField(
                "parameters.input_minimum", "it is above input_maximum", "give a least and a greatest value"
            )
    return {name: (low[name], high[name]) for name in low}


def _fitting(value: Array | float, prepared: PreparedGraph, field: str) -> dict[str, Array]:
    array = np.asarray(value)
    if not np.isfinite(array).all():
        raise InvalidField(f"parameters.{field}", "it holds NaN or infinity", "give finite numbers")
    return {name: fitting_instance(array, prepared, name, f"parameters.{field}") for name in prepared.dtypes}


def fitting_instance(array: Array, prepared: PreparedGraph, name: str, field: str) -> Array:
    """A scalar or one instance, as a scalar or in the shape of an input without its batch axis.

    Raises:
        InvalidField: it is neither.
    """
    if array.size == 1 and array.ndim <= 1:
        return array.reshape(())
    shape = (prepared.shapes[name] or (None,))[1:]
    if array.ndim == len(shape) + 1 and len(array) == 1:
        array = array[0]
    fits = array.ndim == len(shape) and all(
        length is None or length == given for length, given in zip(shape, array.shape, strict=True)
    )
    if not fits or len(prepared.dtypes) > 1:
        text = ", ".join("any" if length is None else str(length) for length in shape)
        remedy = (
            f"give a scalar or shape ({text})"
            if len(prepared.dtypes) == 1
            else "give a scalar: there are several inputs"
        )
        raise InvalidField(field, f"its shape is {array.shape}", remedy)
    return array


def check_target(parameters: LrpParameters, rows: int, logits: tuple[int, ...]) -> None:
    """Checks what is explained.

    Args:
        parameters: the request.
        rows: how many instances there are.
        logits: the shape of one instance's logits.

    Raises:
        InvalidField: a class is out of range, or a list or an array does not fit.
    """
    what, count = parameters.target.what, math.prod(logits)
    if isinstance(what, Classes | ClassPerInstance):
        path = "classes" if isinstance(what, Classes) else "class_per_instance"
        if isinstance(what, Classes) and not what.indices:
            raise InvalidField("parameters.target.classes.indices", "it is empty", "name at least one class")
        if isinstance(what, ClassPerInstance) and len(what.indices) != rows:
            problem = f"it names {len(what.indices)} classes for {rows} instances"
            raise InvalidField("parameters.target.class_per_instance.indices", problem, "name one for each")
        for index, value in enumerate(what.indices):
            if not 0 <= value < count:
                field = f"parameters.target.{path}.indices[{index}]"
                raise InvalidField(field, f"there is no class {value}", f"give 0 to {count - 1}")
    if isinstance(what, GivenRelevance):
        shape = what.values.shape
        single, several = (rows, *logits), (rows, *shape[1:2], *logits)
        if shape not in (single, several) or 0 in shape:
            field, problem = "parameters.target.relevance", f"its shape is {shape}"
            raise InvalidField(field, problem, f"give {single}, or {(rows, 'targets', *logits)}")
        if not np.isfinite(what.values).all():
            raise InvalidField("parameters.target.relevance", "it holds NaN or infinity", "give finite numbers")
    elif parameters.target.value is TargetValue.MARGIN and count < 2:
        raise InvalidField(
            "parameters.target.value", "there is but one logit, so there is no margin", "explain the logit itself"
        )
