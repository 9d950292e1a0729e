"""The last step: everything on one page."""

from __future__ import annotations

import time

from sidelight_service.cli.terminal import size_in_words
from sidelight_service.demo.stage import ONNX, Stage, heading, say

_SHOWN = 6


def write_report(stage: Stage) -> None:
    """Writes the report of the ONNX model."""
    from sidelight_service.report import ReportRequest, build_report

    heading("A report of all of it, on one page")
    started = time.monotonic()
    request = ReportRequest(ONNX, stage.reference, x=stage.images, instances=_SHOWN, timeout=300)
    page, missing = build_report(stage.client, request)
    path = stage.directory / "report.html"
    size = path.write_text(page, encoding="utf-8")
    say(f"{path} ({size_in_words(size)}) in {time.monotonic() - started:.1f} s; open it in a browser")
    for reason in missing:
        say(f"not in it: {reason}")
