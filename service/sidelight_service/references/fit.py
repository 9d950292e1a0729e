"""Whether examples and labels are what a model takes, by what GetModel tells of it.

The front process asks this, which knows models by their description alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sidelight.v1 import model_pb2, tensor_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec

from sidelight_service.convert.instances import as_input
from sidelight_service.convert.tensors import Array


@dataclass(frozen=True)
class Fit:
    """What a model takes.

    Attributes:
        model: its name, for messages.
        inputs: of the model.
        output_count: numbers in its default output, None if its shape is not known.
        classifier: whether the default output is a probability.
    """

    model: str
    inputs: tuple[TensorSpec, ...]
    output_count: int | None
    classifier: bool

    @classmethod
    def of(cls, detail: model_pb2.ModelDetail, model: str) -> Fit:
        """What a model takes, by its description."""
        output = list(detail.outputs[0].shape) if detail.outputs else []
        known = len(output) == 2 and output[1] > 0
        return cls(model, tuple(_spec(spec) for spec in detail.inputs), output[1] if known else None, detail.classifier)

    def spec(self, name: str, names: Sequence[str], field: str) -> TensorSpec:
        """The model's input that an array feeds.

        Args:
            name: of the array; may be empty where there is one.
            names: of all arrays.
            field: the path of the array in the request.

        Raises:
            InvalidField: the model has no such input, or others beside these.
        """
        listed = ", ".join(repr(spec.name) for spec in self.inputs)
        if len(names) != len(self.inputs):
            raise InvalidField(
                field, f"there are {len(names)} inputs where model {self.model!r} has {len(self.inputs)}: {listed}",
                "give one array for each",
            )  # fmt: skip
        if len(self.inputs) == 1 and name == "":
            return self.inputs[0]
        for spec in self.inputs:
            if spec.name == name:
                return spec
        raise InvalidField(field, f"model {self.model!r} has no input {name!r}", f"it has {listed}")

    def check_rows(self, rows: Array, spec: TensorSpec, field: str) -> None:
        """Checks that rows, finite and of a numeric type, can be fed to an input.

        Raises:
            InvalidField: they can not.
        """
        check_shape(rows.shape[1:], spec, field, f"model {self.model!r}")
        try:
            wanted = np.dtype(spec.dtype)
        except TypeError as error:
            raise InvalidField(
                field, f"model {self.model!r} takes {spec.dtype}", "reference sets hold numbers alone"
            ) from error
        if np.can_cast(rows.dtype, wanted, "safe"):
            return
        if wanted.kind == "f" and rows.dtype.kind in "biu":
            return  # rounded to the nearest
        if not np.isfinite(as_input(rows, spec, field)).all():
            raise InvalidField(field, f"has values beyond {wanted.name}", f"give what {wanted.name} can hold")

    def check_classes(self, greatest: int, columns: int | None, field: str) -> None:
        """Checks that classes are among the outputs.

        Args:
            greatest: the greatest class.
            columns: of a one-hot matrix; None for indices.
            field: the path of the labels in the request.

        Raises:
            InvalidField: they are not.
        """
        if self.output_count is None:
            return
        # A single output is the probability of class 1.
        classes = max(self.output_count, 2)
        if greatest >= classes:
            raise InvalidField(
                field, f"hold class {greatest} where model {self.model!r} has {classes}", f"give 0 to {classes - 1}"
            )
        if columns is not None and columns != classes:
            raise InvalidField(
                field, f"are one-hot of {columns} classes where model {self.model!r} has {classes}", "make them agree"
            )

    def check_targets(self, shape: tuple[int, ...], field: str) -> None:
        """Checks that regression targets are shaped like the output.

        Args:
            shape: of one label.
            field: the path of the labels in the request.

        Raises:
            InvalidField: they are not.
        """
        if self.output_count is None:
            return
        numbers = int(np.prod(shape, dtype=np.int64))
        if numbers != self.output_count:
            raise InvalidField(
                field,
                f"are floating-point targets of {numbers} numbers where model {self.model!r} gives {self.output_count}",
                "give as many, or integers for classes",
            )


def check_shape(shape: tuple[int, ...], spec: TensorSpec, field: str, taker: str) -> None:
    """Checks that one example has the shape that an input takes.

    Raises:
        InvalidField: it has not.
    """
    wanted = spec.shape[1:]
    fits = len(shape) == len(wanted) and all(w is None or w == s for w, s in zip(wanted, shape, strict=True))
    if not fits:
        text = ", ".join("any" if length is None else str(length) for length in wanted)
        raise InvalidField(
            field, f"holds examples of shape {list(shape)} where {taker} takes [{text}]", "give examples of that shape"
        )


def _spec(wire: model_pb2.TensorSpec) -> TensorSpec:
    dtype = tensor_pb2.DataType.Name(wire.data_type).removeprefix("DATA_TYPE_").lower()
    return TensorSpec(wire.name, wire.name, dtype, tuple(None if length < 0 else length for length in wire.shape))
