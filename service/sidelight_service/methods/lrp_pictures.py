"""The pictures of a relevance response: heatmaps beside the inputs, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidelight.v1 import lrp_pb2
from sidelight_engines.pictures import Picture, RelevanceMap, ledger_by_layer, relevance_heatmaps
from sidelight_engines.runtime.runtime import Array

from sidelight_service.convert.lrp_results import LEDGER_COLUMNS
from sidelight_service.convert.pictures import Rendering
from sidelight_service.convert.tensors import tensor_to_array

_MOST_TARGETS = 8
_TOTAL = "total"


def draw_pictures(
    model: str, inputs: Mapping[str, Array], response: lrp_pb2.ExplainLrpResponse, rendering: Rendering
) -> list[Picture]:
    """Draws a response.

    Args:
        model: its name.
        inputs: the instances by input name; at least those that are drawn.
        response: the whole response.
        rendering: how.

    Returns:
        One picture per input, and one of the ledger if there is one.
    """
    style: dict[str, Any] = {
        "file_format": rendering.format,
        "width_pixels": rendering.width_pixels,
        "dark": rendering.dark,
    }
    pictures = []
    for relevance in response.inputs:
        maps = _maps(inputs[relevance.name], tensor_to_array(relevance.tensor, "", "float32"), response, rendering)
        of = f" at {relevance.name}" if len(response.inputs) > 1 else ""
        pictures.append(relevance_heatmaps(maps, title=f"Relevance in {model}{of}", **style))
    if response.ledger:
        started = [explained.relevance_out for explained in response.explained]
        columns = {name: [list(getattr(entry, name)) for entry in response.ledger] for name in LEDGER_COLUMNS}
        names = [entry.layer or _TOTAL for entry in response.ledger]
        pictures.append(ledger_by_layer(names, started, columns, title=f"Where relevance went in {model}", **style))
    return pictures


def _maps(
    instances: Array, relevance: Array, response: lrp_pb2.ExplainLrpResponse, rendering: Rendering
) -> list[RelevanceMap]:
    count, targets = relevance.shape[:2]
    shown = min(targets, _MOST_TARGETS)
    maps = []
    for i in range(min(count, rendering.max_instances)):
        explained = response.explained[i * targets : i * targets + shown]
        captions = tuple(
            "given relevance" if item.class_index < 0 else f"class {item.class_index}: {item.logit:.3g}"
            for item in explained
        )
        maps.append(RelevanceMap(instances[i], relevance[i, :shown], captions, f"instance {explained[0].instance}"))
    return maps
