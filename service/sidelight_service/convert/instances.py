"""Instances: what a request carries, as arrays of the types that the model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from sidelight.v1 import reference_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec

from sidelight_service.convert.tensors import Array, convert_values, tensor_to_array

if TYPE_CHECKING:
    from sidelight_service.references.selecting import SelectedExamples

Select = Callable[[reference_pb2.ReferenceSelection, str], "SelectedExamples"]
"""Resolves a selection of a reference set; takes its path in the request too, for errors."""


def single_input(wire: reference_pb2.Instances, field: str, spec: TensorSpec, select: Select) -> tuple[Array, str]:
    """Reads instances of a model with one input.

    Args:
        wire: the wire form.
        field: its path in the request, for errors.
        spec: the input.
        select: resolves a selection of a reference set.

    Returns:
        The instances in the input's type, axis 0 the batch; and the path of the tensor that they came in, or of
        the selection. Those of a reference set may be memory-mapped. Shapes and values are the engine's to check.

    Raises:
        InvalidField: they are missing, named wrongly or malformed.
        ReferenceNotFound: they are selected from a set that is gone.
    """
    source = wire.WhichOneof("source")
    if source is None:
        raise InvalidField(field, "is not set", "set `inline` with a tensor whose first axis is the batch")
    if source == "reference":
        path = f"{field}.reference"
        return select(wire.reference, path).inputs((spec,))[spec.name], path
    inputs = wire.inline.inputs
    path = f"{field}.inline.inputs"
    if len(inputs) != 1:
        raise InvalidField(path, f"has {len(inputs)} tensors where the model has one input", "send one tensor")
    if inputs[0].name not in ("", spec.name):
        raise InvalidField(
            f"{path}[0].name", f"the model has no input {inputs[0].name!r}", f"name it {spec.name!r}, or leave it empty"
        )
    path = f"{path}[0].tensor"
    array = tensor_to_array(inputs[0].tensor, path, spec.dtype)
    return as_input(array, spec, path), path


def all_inputs(
    wire: reference_pb2.Instances, field: str, specs: tuple[TensorSpec, ...], select: Select
) -> tuple[dict[str, Array], dict[str, str], SelectedExamples | None]:
    """Reads instances of a model with any number of inputs.

    Args:
        wire: the wire form.
        field: its path in the request, for errors.
        specs: the inputs.
        select: resolves a selection of a reference set.

    Returns:
        Input name -> instances in the input's type, axis 0 the batch; input name -> the path that they came in; and
        the selection, if that is where they came from. Shapes and values are the engine's to check.

    Raises:
        InvalidField: they are missing, named wrongly or malformed.
        ReferenceNotFound: they are selected from a set that is gone.
    """
    source = wire.WhichOneof("source")
    if source == "reference":
        path = f"{field}.reference"
        selected = select(wire.reference, path)
        return selected.inputs(specs), dict.fromkeys((spec.name for spec in specs), path), selected
    if source is None or len(specs) == 1:
        array, path = single_input(wire, field, specs[0], select)
        return {specs[0].name: array}, {specs[0].name: path}, None
    path = f"{field}.inline.inputs"
    given = {named.name: position for position, named in enumerate(wire.inline.inputs)}
    wanted = [spec.name for spec in specs]
    if len(wire.inline.inputs) != len(specs) or given.keys() != set(wanted):
        raise InvalidField(path, f"names {sorted(given)} where the model has {wanted}", "send one tensor for each")
    arrays, fields = {}, {}
    for spec in specs:
        fields[spec.name] = f"{path}[{given[spec.name]}].tensor"
        tensor = wire.inline.inputs[given[spec.name]].tensor
        arrays[spec.name] = as_input(tensor_to_array(tensor, fields[spec.name], spec.dtype), spec, fields[spec.name])
    return arrays, fields, None


def as_input(array: Array, spec: TensorSpec, field: str) -> Array:
    """Numbers in another type than the input's are converted, if they fit: images often come as bytes."""
    wanted = np.dtype(spec.dtype)
    if array.dtype.kind == "f" and wanted.kind == "f" and array.dtype.itemsize > wanted.itemsize:
        with np.errstate(over="ignore"):  # what becomes infinite is refused with the other infinities
            return array.astype(wanted)
    return convert_values(array, wanted, field)
