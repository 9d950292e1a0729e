"""BuildGradientIndex as a worker runs it: checked, then built a number of references at a time.

What is built lies on the disk, not in the answers: each part goes on from there, whoever wrote it.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog
from google.protobuf import duration_pb2, wrappers_pb2
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from sidelight.v1 import job_pb2, reference_pb2
from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.similarity import (
    Chunking,
    GradientIndex,
    IndexOptions,
    IndexPlan,
    LabelSource,
    LayerSelection,
    Precision,
    extend_index,
    plan_index,
)

from sidelight_service.convert.details import similarity_support
from sidelight_service.convert.linearity import enum_from_proto
from sidelight_service.convert.similarity import gradient_options, label_source
from sidelight_service.methods.context import MethodContext
from sidelight_service.methods.similarity_references import selected_examples
from sidelight_service.references.files import full_disk_reported

logger = structlog.get_logger(__name__)

CHUNK_ROWS = 512
"""References that are written at a time."""

_FIELD = "reference"


def check(context: MethodContext, payload: bytes) -> bytes:
    """Refuses what can not be built, and what there is no room for.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized BuildGradientIndexRequest.

    Returns:
        A serialized Int64Value: the number of references.
    """
    task = _Task.read(context, job_pb2.BuildGradientIndexRequest.FromString(payload))
    context.indexes.require_room(task.place, task.plan.header.size_bytes)
    return wrappers_pb2.Int64Value(value=task.plan.header.count).SerializeToString()


def extend(context: MethodContext, payload: bytes) -> bytes:
    """Builds the index as far as asked.

    Args:
        context: the model and all that is not in the request.
        payload: a BuildGradientIndexRequest, and as Int64Values the references that are done and to be done,
            each serialized behind its length.

    Returns:
        The time it took as a Duration, and a BuildGradientIndexResponse, empty until the index is complete; each
        serialized behind its length.
    """
    began = time.monotonic()
    stream = io.BytesIO(payload)
    request = parse_length_prefixed(job_pb2.BuildGradientIndexRequest, stream)
    done = parse_length_prefixed(wrappers_pb2.Int64Value, stream)
    wanted = parse_length_prefixed(wrappers_pb2.Int64Value, stream)
    if request is None or done is None or wanted is None:
        raise ValueError("a message is missing; the front process sends three")
    task = _Task.read(context, request)
    header = task.plan.header
    # Progress is told from the beginning of the part.
    control = Control(
        context.control.should_stop,
        lambda rows, total: context.control.progress(max(0, rows - done.value), total),
    )
    with context.indexes.locked(task.place, control), full_disk_reported(task.place.parent, header.size_bytes):
        chunking = Chunking(memory_bytes=context.chunk_bytes)
        index = extend_index(task.plan, task.place, wanted.value, control, chunking=chunking)
    response = job_pb2.BuildGradientIndexResponse()
    if index is not None:
        context.indexes.supersede(task.place, context.owner, header.reference_digest)
        response = _response(index)
        logger.info(
            "gradient index ready",
            index=str(Path(context.name, str(context.version), task.place.name)),
            references=header.count,
            size_bytes=index.size_bytes,
        )
    taken = duration_pb2.Duration()
    taken.FromNanoseconds(int((time.monotonic() - began) * 1e9))
    answer = io.BytesIO()
    serialize_length_prefixed(taken, answer)
    serialize_length_prefixed(response, answer)
    return answer.getvalue()


@dataclass(frozen=True)
class _Task:
    """A request as the engine takes it."""

    plan: IndexPlan
    place: Path

    @classmethod
    def read(cls, context: MethodContext, request: job_pb2.BuildGradientIndexRequest) -> Self:
        support = similarity_support(context.model)
        if not support.supported:
            raise MethodNotSupported("similarity", support.reason)
        enums = request.DESCRIPTOR.fields_by_name
        member = enum_from_proto(
            request.precision, "INDEX_PRECISION_", enums["precision"].enum_type, Precision, "precision"
        )
        precision = Precision.FLOAT32 if member is None else Precision(member)
        source = label_source(request.label_source, enums["label_source"].enum_type, "label_source", LabelSource.GIVEN)
        selected = context.selector().select(reference_pb2.ReferenceSelection(reference=request.reference), _FIELD)
        predicted = source is LabelSource.PREDICTION
        if predicted and selected.labels is not None:
            raise InvalidField(
                "label_source",
                f"is PREDICTION, and reference set {request.reference!r} has labels, which similarity uses then",
                "leave it out, or create the set without labels",
            )
        if not predicted and selected.labels is None:
            raise InvalidField(
                "label_source",
                f"is GIVEN, and reference set {request.reference!r} has no labels",
                "give PREDICTION, or create the set with labels",
            )
        gradients = gradient_options(request.loss, request.output, enums["loss"].enum_type, "loss", LayerSelection())
        try:
            plan = plan_index(
                context.model,
                selected_examples(context.model, selected, _FIELD),
                IndexOptions(gradients, precision, CHUNK_ROWS),
                context.digest,
                selected.reference.header.digest,
            )
        except InvalidField as error:  # here the fields are not within parameters
            raise InvalidField(error.field.removeprefix("parameters."), error.problem, error.remedy) from error
        place = context.indexes.place(
            context.owner, plan.header.reference_digest, plan.task, precision, predicted=predicted
        )
        return cls(plan, place)


def _response(index: GradientIndex) -> job_pb2.BuildGradientIndexResponse:
    header = index.header
    return job_pb2.BuildGradientIndexResponse(
        model_digest=header.model_digest,
        reference_digest=header.reference_digest,
        values_per_reference=header.layout.values_per_example,
        size_bytes=index.size_bytes,
        materialised_layers=header.layout.materialised_layers,
    )
