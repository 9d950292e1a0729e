"""Gradients of a reference set on disk.

A folder of .npy files, one per field of the layout, and ``header.json``, which says what they are and holds a
checksum of every chunk of rows in each. It is written beside its final place and renamed when it is complete, so
that a folder of the final name is always whole; what was written of an unfinished one is gone on with.
"""
