"""Which methods this server has: known to the front process, which must not import the engines."""

from collections.abc import Mapping

from sidelight.v1 import model_pb2

BUILT: Mapping[str, model_pb2.Method.ValueType] = {
    "ExplainLinearity": model_pb2.METHOD_LINEARITY,
    "ExplainLrp": model_pb2.METHOD_LRP,
}
"""The names of their RPCs -> the methods."""
