"""Linear operations as maps: forward with any weights, and back by the transpose."""
