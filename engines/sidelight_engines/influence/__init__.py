"""How predictions change when a feature's mean moves: entropic tilting."""

from sidelight_engines.influence.explain import explain_influence
from sidelight_engines.influence.parameters import InfluenceParameters, Metric, Rows, UnattainableTarget
from sidelight_engines.influence.result import InfluenceResult, Notice
from sidelight_engines.influence.validation import check_request

__all__ = [
    "InfluenceParameters",
    "InfluenceResult",
    "Metric",
    "Notice",
    "Rows",
    "UnattainableTarget",
    "check_request",
    "explain_influence",
]
