"""The report: one self-contained HTML page that explains a model by every family that it supports.

A family is one file in `sections`; what it draws with is in `figures`; the page is in `templates`.
"""

from sidelight_service.report.build import build_report
from sidelight_service.report.subject import ReportRequest

__all__ = ["ReportRequest", "build_report"]
