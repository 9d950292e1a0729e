"""Which methods this server has: known to the front process, which must not import the engines."""

BUILT = frozenset({"ExplainLinearity"})
"""The names of their RPCs."""
