"""Which methods this server has: known to the front process, which must not import the engines."""

from collections.abc import Mapping

from sidelight.v1 import model_pb2

BUILT: Mapping[str, model_pb2.Method.ValueType] = {
    "ExplainLinearity": model_pb2.METHOD_LINEARITY,
    "ExplainSimilarity": model_pb2.METHOD_SIMILARITY,
    "ExplainActivationPattern": model_pb2.METHOD_ACTIVATION_PATTERN,
}
"""The names of their RPCs -> the methods."""

JOBS_ALONE = frozenset({"BuildGradientIndex"})
"""Work that is no RPC: it is done by jobs alone."""
