"""``python -m sidelight_service.cli``: the command line, where its script is not on the path."""

from sidelight_service.cli.app import main

main()
