"""The command line: ``sidelight serve``, ``demo``, ``models``, ``references``, ``explain``.

Modules here import only typer at the top, so that help and completion answer at once; what a command
needs it imports when it runs.
"""

from sidelight_service.cli.app import app, main

__all__ = ["app", "main"]
