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


def inline_inputs(wire: reference_pb2.InlineInstances, field: str, specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Reads the instances that a request carries for a model with any number of inputs.

    Args:
        wire: the wire form.
        field: its path in the request, for errors.
        specs: the model's inputs.

    Returns:
        Input name -> array in the input's type. Shapes and values are the engine's to check.

    Raises:
        InvalidField: an input is missing, named wrongly or malformed.
    """
    path = f"{field}.inputs"
    wanted = [spec.name for spec in specs]
    if len(wire.inputs) != len(specs):
        raise InvalidField(
            path,
            f"has {len(wire.inputs)} tensors where the model has {len(specs)} inputs: {wanted}",
            "send one of each",
        )
    by_name = {spec.name: spec for spec in specs}
    found: dict[str, Array] = {}
    for position, named in enumerate(wire.inputs):
        spec = specs[0] if len(specs) == 1 and not named.name else by_name.get(named.name)
        if spec is None or spec.name in found:
            problem = "is given twice" if spec else "is no input of the model"
            raise InvalidField(f"{path}[{position}].name", f"{named.name!r} {problem}", f"the inputs are {wanted}")
        where = f"{path}[{position}].tensor"
        found[spec.name] = as_input(tensor_to_array(named.tensor, where, spec.dtype), spec, where)
    return found


def as_input(array: Array, spec: TensorSpec, field: str) -> Array:
    """Numbers in another type than the input's are converted, if they fit: images often come as bytes."""
    wanted = np.dtype(spec.dtype)
    if array.dtype.kind == "f" and wanted.kind == "f" and array.dtype.itemsize > wanted.itemsize:
        with np.errstate(over="ignore"):  # what becomes infinite is refused with the other infinities
            return array.astype(wanted)
    return convert_values(array, wanted, field)
