"""A request with everything resolved that it left open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sidelight_engines.lrp.parameters import Classes, ClassPerInstance, GivenRelevance, LrpParameters
from sidelight_engines.lrp.request.start import StartKind
from sidelight_engines.lrp.request.validation import check_target, checked_inputs, resolved_box
from sidelight_engines.lrp.structure.prepared import PreparedGraph
from sidelight_engines.model import Model
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True)
class Request:
    """A request, checked.

    Attributes:
        prepared: the graph.
        feed: input name -> (n, ...), for the inputs that the explained output needs.
        parameters: as they were given, with the output named.
        box: input name -> least and greatest value; None where no rule reads them.
        logits: the shape of one instance's logits.
        start: how relevance starts.
        given: CLASSES: (targets, n) int32; GIVEN: (targets, n, ...logits) float64; else None.
        targets: targets per instance.
        tensors: layer name -> its tensor in the graph, for the layers asked for.
        rest: the inputs that the output does not need: name -> shape with n.
    """

    prepared: PreparedGraph
    feed: dict[str, Array]
    parameters: LrpParameters
    box: dict[str, tuple[Array, Array]] | None
    logits: tuple[int, ...]
    start: StartKind
    given: Array | None
    targets: int
    tensors: dict[str, str]
    rest: dict[str, tuple[int, ...]]

    @property
    def rows(self) -> int:
        """How many instances there are."""
        return min(len(array) for array in self.feed.values() if array.ndim)


def make_request(
    model: Model, prepared: PreparedGraph, inputs: Mapping[str, Array], parameters: LrpParameters, field: str
) -> Request:
    """Checks and resolves a request.

    Raises:
        InvalidField: a value is not one that may be given.
    """
    feed = checked_inputs(prepared, inputs, field)
    rows = min(len(array) for array in feed.values() if array.ndim)
    logits = _logit_shape(model, prepared, inputs)
    check_target(parameters, rows, logits)
    graph = model.graph
    if parameters.layers.everything:
        chosen = list(graph.layers)
    else:
        named = enumerate(dict.fromkeys(parameters.layers.names))
        chosen = [graph.layer(name, f"parameters.layers.names[{index}]") for index, name in named]
    start, given, targets = _start(parameters, rows, logits)
    return Request(
        prepared=prepared,
        feed=feed,
        parameters=replace(parameters, target=replace(parameters.target, output=prepared.output.name)),
        box=resolved_box(parameters, prepared),
        logits=logits,
        start=start,
        given=given,
        targets=targets,
        tensors={layer.name: _full(prepared.frozen.tensor(layer.tensor)) for layer in chosen},
        rest={name: np.shape(inputs[name]) for name in prepared.unused if name in inputs},
    )


def _full(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _start(parameters: LrpParameters, rows: int, logits: tuple[int, ...]) -> tuple[StartKind, Array | None, int]:
    what = parameters.target.what
    if isinstance(what, Classes):
        unique = np.array(list(dict.fromkeys(what.indices)), np.int32)
        return StartKind.CLASSES, np.repeat(unique[:, None], rows, axis=1), len(unique)
    if isinstance(what, ClassPerInstance):
        return StartKind.CLASSES, np.array(what.indices, np.int32)[None], 1
    if isinstance(what, GivenRelevance):
        values = what.values.astype(np.float64)
        several = values if values.ndim == len(logits) + 2 else values[:, None]
        return StartKind.GIVEN, np.ascontiguousarray(np.moveaxis(several, 1, 0)), several.shape[1]
    return StartKind.LARGEST, None, 1


def _logit_shape(model: Model, prepared: PreparedGraph, inputs: Mapping[str, Array]) -> tuple[int, ...]:
    """The shape of one instance's logits; found by a forward pass where the file does not tell."""
    known = prepared.target_shape
    if known is not None:
        return known
    first = {name: array[:1] for name, array in inputs.items()}
    made = model.runtime().forward([prepared.output.tensor])(first)[0]
    return tuple(made.shape[1:])
