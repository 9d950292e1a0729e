"""Compute workers: the processes that hold models, and the pool that hands them out."""
