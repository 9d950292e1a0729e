"""Sidelight against the runtimes' own speed and against the reference libraries."""
