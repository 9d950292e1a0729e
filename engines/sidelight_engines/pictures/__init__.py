"""Pictures of results: arrays in, a PNG or SVG file out.

Drawn with matplotlib's objects alone: no pyplot, no settings of the process, safe in threads.
matplotlib is imported when the first picture is drawn.
"""

from sidelight_engines.pictures.ledger import ledger_by_layer
from sidelight_engines.pictures.linearity import linearity_by_layer
from sidelight_engines.pictures.picture import Picture, PictureFormat
from sidelight_engines.pictures.relevance import RelevanceMap, relevance_heatmaps

__all__ = [
    "Picture",
    "PictureFormat",
    "RelevanceMap",
    "ledger_by_layer",
    "linearity_by_layer",
    "relevance_heatmaps",
]
