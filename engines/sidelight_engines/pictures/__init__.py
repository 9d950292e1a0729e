"""Pictures of results: arrays in, a PNG or SVG file out.

Drawn with matplotlib's objects alone: no pyplot, no settings of the process, safe in threads.
matplotlib is imported when the first picture is drawn.
"""

from sidelight_engines.pictures.linearity import linearity_by_layer
from sidelight_engines.pictures.picture import Picture, PictureFormat
from sidelight_engines.pictures.similarity_means import ClassScores, similarity_class_means
from sidelight_engines.pictures.similarity_strip import DrawnExample, Strip, similarity_strip

__all__ = [
    "ClassScores",
    "DrawnExample",
    "Picture",
    "PictureFormat",
    "Strip",
    "linearity_by_layer",
    "similarity_class_means",
    "similarity_strip",
]
