"""Gradient methods through the same graph."""
