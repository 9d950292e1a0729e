"""The Sidelight server: decodes requests, runs the engines in worker processes, encodes results."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sidelight")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"
