"""Reference sets: protobuf to what the store takes, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sidelight.v1 import model_pb2, reference_pb2, reference_service_pb2, tensor_pb2
from sidelight_engines.errors import InvalidField

from sidelight_service.convert.models import dtype_to_proto
from sidelight_service.convert.tensors import array_to_tensor, tensor_to_array
from sidelight_service.references.arrays import Array
from sidelight_service.references.fit import Fit
from sidelight_service.references.header import Header
from sidelight_service.references.writer import Chunk


def header_to_proto(header: Header) -> reference_pb2.ReferenceSet:
    """The wire form of a set."""
    wire = reference_pb2.ReferenceSet(
        name=header.name,
        digest=header.digest,
        count=header.count,
        inputs=[
            reference_pb2.ReferenceInput(
                name=item.name,
                data_type=dtype_to_proto(item.dtype),
                shape=item.shape,
                minimum=item.minimum,
                maximum=item.maximum,
            )
            for item in header.inputs
        ],
        class_counts=header.class_counts,
        labelled=header.labels is not None,
        size_bytes=header.size_bytes,
    )
    wire.create_time.FromDatetime(header.created)
    return wire


def add_feature_ranges(wire: reference_pb2.ReferenceSet, ranges: Sequence[tuple[Array, Array]]) -> None:
    """Adds the least and greatest value of each feature, one pair per input."""
    for item, (least, greatest) in zip(wire.inputs, ranges, strict=True):
        item.feature_minimum.CopyFrom(array_to_tensor(least))
        item.feature_maximum.CopyFrom(array_to_tensor(greatest))


def chunk_from_proto(wire: reference_service_pb2.ReferenceChunk, fit: Fit | None) -> Chunk:
    """Reads a chunk of an upload. Its arrays are views of the message where it holds raw bytes.

    Args:
        wire: the wire form.
        fit: the model that the set is for, whose types tensors without one have; None for none.

    Raises:
        InvalidField: it is malformed.
    """
    fields = {}
    inputs = {}
    for position, named in enumerate(wire.inputs):
        field = f"chunk.inputs[{position}].tensor"
        name = named.name
        if len(wire.inputs) == 1:
            if fit is not None:
                fit.spec(name, [name], f"chunk.inputs[{position}].name")
            # One input needs no name, so that equal examples are the same set under whatever name they come.
            name = ""
        elif not name or name in inputs:
            raise InvalidField(
                f"chunk.inputs[{position}].name",
                f"{name!r} is given twice" if name else "is empty beside other inputs",
                "name each input as the model does",
            )
        inputs[name] = tensor_to_array(named.tensor, field, _default_dtype(named, list(wire.inputs), fit, field))
        fields[name] = field
    labels = None
    if wire.HasField("labels"):
        default = "int64" if wire.labels.WhichOneof("content") == "int64_values" else "float64"
        labels = tensor_to_array(wire.labels, "chunk.labels", default)
    return Chunk(inputs, labels, fields)


def _default_dtype(
    named: tensor_pb2.NamedTensor, all_named: list[tensor_pb2.NamedTensor], fit: Fit | None, field: str
) -> str:
    if named.tensor.data_type != tensor_pb2.DATA_TYPE_UNSPECIFIED or named.tensor.WhichOneof("content") in (
        None,
        "raw",
    ):
        return ""  # stated, or refused by tensor_to_array
    if fit is None:
        raise InvalidField(f"{field}.data_type", "is not set", "state a type, or the model that the set is for")
    return fit.spec(named.name, [other.name for other in all_named], field).dtype


def model_from_text(text: str, field: str) -> model_pb2.ModelSelector:
    """Reads ``NAME``, ``NAME:VERSION`` or ``NAME@LABEL``.

    Raises:
        InvalidField: the text is none of these.
    """
    for mark, key in (("@", "label"), (":", "version")):
        name, found, choice = text.rpartition(mark)
        if not found:
            continue
        given: Mapping[str, str | int] = {key: int(choice) if key == "version" and choice.isdecimal() else choice}
        if not name or not choice or (key == "version" and not choice.isdecimal()):
            raise InvalidField(field, f"{text!r} names no model", "give NAME, NAME:VERSION or NAME@LABEL")
        return model_pb2.ModelSelector(name=name, **given)  # type: ignore[arg-type]
    return model_pb2.ModelSelector(name=text)
