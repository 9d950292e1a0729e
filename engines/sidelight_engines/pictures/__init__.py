"""Pictures of results: arrays in, a PNG or SVG file out.

Drawn with matplotlib's objects alone: no pyplot, no settings of the process, safe in threads.
matplotlib is imported when the first picture is drawn.
"""

from sidelight_engines.pictures.activation_pattern import class_neighbours, firing_rates, pattern_distances
from sidelight_engines.pictures.influence_curves import influence_curves
from sidelight_engines.pictures.influence_data import InfluenceDrawing
from sidelight_engines.pictures.influence_heatmaps import influence_heatmaps
from sidelight_engines.pictures.influence_ranking import influence_ranking
from sidelight_engines.pictures.ledger import ledger_by_layer
from sidelight_engines.pictures.linearity import linearity_by_layer
from sidelight_engines.pictures.picture import Picture, PictureFormat
from sidelight_engines.pictures.relevance import RelevanceMap, relevance_heatmaps
from sidelight_engines.pictures.similarity_means import ClassScores, similarity_class_means
from sidelight_engines.pictures.similarity_strip import DrawnExample, Strip, similarity_strip

__all__ = [
    "ClassScores",
    "DrawnExample",
    "InfluenceDrawing",
    "Picture",
    "PictureFormat",
    "RelevanceMap",
    "Strip",
    "class_neighbours",
    "firing_rates",
    "influence_curves",
    "influence_heatmaps",
    "influence_ranking",
    "ledger_by_layer",
    "linearity_by_layer",
    "pattern_distances",
    "relevance_heatmaps",
    "similarity_class_means",
    "similarity_strip",
]
