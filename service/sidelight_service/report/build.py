"""Builds a report: asks the server family by family, and writes the page."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidelight_service import __version__
from sidelight_service.report.page import Page, Section
from sidelight_service.report.rendering import render
from sidelight_service.report.sections import FAMILIES, Family, describe_model
from sidelight_service.report.subject import ReportRequest, Subject

if TYPE_CHECKING:
    from sidelight import Client


def build_report(
    client: Client, request: ReportRequest, tell: Callable[[str], None] = lambda what: None
) -> tuple[str, list[str]]:
    """Explains a model by every family that it supports.

    Args:
        client: of a server.
        request: what to report on.
        tell: told what is being done.

    Returns:
        The page as HTML; and, for each family that could not be shown, its title and why.

    Raises:
        SidelightError: the model or the reference set can not be described, or the server does not answer.
    """
    detail = client.model(request.model, timeout=request.timeout)
    reference = client.reference(request.reference, timeout=request.timeout)
    subject = Subject(client, request, detail, reference)
    sections = [describe_model(subject)]
    missing = []
    for family in FAMILIES:
        tell(family.title)
        section = _section(family, subject)
        if section.unavailable:
            missing.append(f"{section.title}: {section.unavailable}")
        sections.append(section)
    status = detail.status
    page = Page(
        title=f"{detail.name}, version {detail.version}",
        subtitle=f"{status.digest}, explained with reference set {reference.name} ({reference.digest})",
        made=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC by Sidelight {__version__} at {client.target}",
        sections=sections,
    )
    return render(page), missing


def _section(family: Family, subject: Subject) -> Section:
    """One family; where it can not be shown, why."""
    import sidelight

    support = {method.method: method for method in subject.detail.methods}.get(family.method)
    if support is None or not support.supported:
        reason = support.reason if support is not None else "the server does not say whether it supports it"
        return family.missing(reason)
    try:
        return family.explain(subject)
    except (sidelight.InvalidArgument, sidelight.FailedPrecondition, sidelight.ResourceExhausted) as error:
        # About this model and data; a server that is gone ends the report.
        return family.missing(error.message)
