"""The model repository: what lies there, and what of it is served."""
