"""The Python client of Sidelight: explanations of served models, over gRPC.

    import sidelight

    client = sidelight.connect("localhost:8461")
    explanation = client.linearity("digits", x, layers="all", feature_range=(0, 1))
    explanation["conv_1"].mean

`connect` gives a blocking `Client`, `connect_async` an `AsyncClient` of the same methods. Whatever
goes wrong is raised as a `SidelightError`.
"""

from sidelight.activation_pattern import (
    ActivationPatternExplanation,
    ActivationPatternParameters,
    LayerPattern,
    PatternDistances,
    SpecificUnit,
)
from sidelight.aio import AsyncClient, connect_async
from sidelight.aio_job import AsyncJob
from sidelight.client import Client, connect
from sidelight.errors import (
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InternalError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SidelightError,
    Unavailable,
    Unimplemented,
)
from sidelight.influence import InfluenceExplanation
from sidelight.job import Job
from sidelight.jobs import JobFailure, JobInfo, JobProgress
from sidelight.linearity import LayerLinearity, LinearityExplanation, LinearityParameters
from sidelight.lrp import AppliedRule, LedgerEntry, LrpExplanation
from sidelight.models import (
    GradientCheck,
    Layer,
    MethodSupport,
    Model,
    ModelDetail,
    ModelError,
    ModelVersion,
    ServerInfo,
    TensorSpec,
    UnsupportedOp,
)
from sidelight.provenance import Picture, Provenance, ResultWarning
from sidelight.references import ReferenceInput, ReferenceSet
from sidelight.selection import ReferenceSelection
from sidelight.similarity import ClassMeans, GradientIndex, Neighbours, SimilarityExplanation

__version__ = "0.1.0"

__all__ = [
    "ActivationPatternExplanation",
    "ActivationPatternParameters",
    "AlreadyExists",
    "AppliedRule",
    "AsyncClient",
    "AsyncJob",
    "Cancelled",
    "ClassMeans",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "GradientCheck",
    "GradientIndex",
    "InfluenceExplanation",
    "InternalError",
    "InvalidArgument",
    "Job",
    "JobFailure",
    "JobInfo",
    "JobProgress",
    "Layer",
    "LayerLinearity",
    "LayerPattern",
    "LedgerEntry",
    "LinearityExplanation",
    "LinearityParameters",
    "LrpExplanation",
    "MethodSupport",
    "Model",
    "ModelDetail",
    "ModelError",
    "ModelVersion",
    "Neighbours",
    "NotFound",
    "PatternDistances",
    "Picture",
    "Provenance",
    "ReferenceInput",
    "ReferenceSelection",
    "ReferenceSet",
    "ResourceExhausted",
    "ResultWarning",
    "ServerInfo",
    "SidelightError",
    "SimilarityExplanation",
    "SpecificUnit",
    "TensorSpec",
    "Unavailable",
    "Unimplemented",
    "UnsupportedOp",
    "connect",
    "connect_async",
]
