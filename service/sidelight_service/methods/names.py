"""The methods by their names on the wire: known to the front process, which must not import the engines."""

from collections.abc import Callable, Mapping
from typing import Any

from sidelight.v1 import model_pb2

METHOD_OF_RPC: Mapping[str, model_pb2.Method.ValueType] = {
    "ExplainLinearity": model_pb2.METHOD_LINEARITY,
    "ExplainSimilarity": model_pb2.METHOD_SIMILARITY,
    "ExplainLrp": model_pb2.METHOD_LRP,
    "ExplainActivationPattern": model_pb2.METHOD_ACTIVATION_PATTERN,
    "ExplainInfluence": model_pb2.METHOD_INFLUENCE,
}
"""The names of their RPCs -> the methods."""

MODEL_OPTIONAL: Mapping[str, Callable[[Any], bool]] = {
    "ExplainInfluence": lambda request: request.parameters.HasField("predictions"),
}
"""The methods that need no model for some requests -> whether a request is one of these."""
