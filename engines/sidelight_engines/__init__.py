"""The library under Sidelight: model files and arrays in, explanations out.

It knows nothing of gRPC, keeps no global state, reads no environment, and draws random numbers only
from a caller's seed.
"""
