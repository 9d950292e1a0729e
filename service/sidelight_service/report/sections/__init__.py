"""The sections of a report, one file per family."""

from sidelight_service.report.sections.activation_pattern import ACTIVATION_PATTERN
from sidelight_service.report.sections.family import Family
from sidelight_service.report.sections.influence import INFLUENCE
from sidelight_service.report.sections.linearity import LINEARITY
from sidelight_service.report.sections.lrp import LRP
from sidelight_service.report.sections.model import describe_model
from sidelight_service.report.sections.similarity import SIMILARITY

FAMILIES: tuple[Family, ...] = (LINEARITY, SIMILARITY, LRP, ACTIVATION_PATTERN, INFLUENCE)
"""In the order of the page."""

__all__ = ["FAMILIES", "Family", "describe_model"]
