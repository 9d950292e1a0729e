"""A page as HTML: one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from sidelight_service.report.page import Page


@cache
def environment() -> Environment:
    """What reads the templates."""
    return Environment(
        loader=PackageLoader("sidelight_service.report"),
        # Names in a page come from model files.
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(page: Page) -> str:
    """Writes a page.

    The page forbids itself, by its content security policy, to load anything and to run any script but its own.
    """
    templates = environment()
    source = templates.loader
    if source is None:
        raise RuntimeError("the templates are part of the package")
    # Our own files, which are to stand in the page as they are.
    script, style = (Markup(source.get_source(templates, name)[0]) for name in ("page.js", "page.css"))  # noqa: S704
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.get_template("page.html.j2").render(
        page=page,
        script=script,
        style=style,
        script_digest=digest,
    )
