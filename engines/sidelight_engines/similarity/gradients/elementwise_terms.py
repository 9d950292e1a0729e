"""Terms of additions, products and normalisations, element by element.

y = x + w gives the gradient d by y, summed over what w is spread over; y = x w gives d x, likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidelight_engines.similarity.gradients.terms import Factors, NotFactorableError, Whole, examples_first


@dataclass(frozen=True)
class ElementwiseTerm:
    """A sum, difference or product of data with a parameter.

    Attributes:
        operands: the name of the data, where the gradient depends on it.
        made: the name of the result.
        shape: of the parameter as it is read, lined up with the result's axes from the right.
        sign: what the gradient is multiplied by.
        per_channel: the axis of the result that a BiasAdd's parameter lies along; None for other operations.
        positions_lead: see `examples_first`.
    """

    operands: tuple[str, ...]
    made: str
    shape: tuple[int, ...]
    sign: float
    per_channel: int | None
    positions_lead: bool

    def factors(self, operands: list[Any], gradient: Any, batch: Any) -> Factors:
        """See `Term`."""
        import tensorflow as tf

        change = gradient * operands[0] if operands else gradient
        if self.sign != 1:
            change = self.sign * change
        cut = examples_first(change, batch, positions_lead=self.positions_lead)
        if self.per_channel is not None:
            summed = [axis for axis in range(1, cut.shape.rank) if axis != self.per_channel + 1]
        else:
            # Axis 0 is the examples, 1 the positions that axis 0 of the result held.
            aligned = (*(1,) * (cut.shape.rank - 1 - len(self.shape)), *self.shape)
            summed = [axis + 1 for axis, length in enumerate(aligned) if length == 1]
        return Whole(tf.reshape(tf.reduce_sum(cut, axis=summed), [batch, *self.shape]))


def elementwise_term(op: Any, position: int, *, positions_lead: bool) -> ElementwiseTerm:
    """The term of Add, Sub, Mul and BiasAdd.

    Raises:
        NotFactorableError: the parameter has a value per example.
    """
    data, read, made = op.inputs[1 - position], op.inputs[position], op.outputs[0]
    shape = tuple(read.shape.as_list())
    rank = made.shape.rank
    if rank is None or data.shape.rank != rank or len(shape) > rank or (len(shape) == rank and shape[0] != 1):
        raise NotFactorableError(f"{op.type} of shapes {data.shape} and {read.shape}")
    per_channel = None
    if op.type == "BiasAdd":
        per_channel = rank - 1 if op.get_attr("data_format") == b"NHWC" else 1
    needs = (data.name,) if op.type == "Mul" else ()
    sign = -1.0 if op.type == "Sub" and position == 1 else 1.0
    return ElementwiseTerm(needs, made.name, shape, sign, per_channel, positions_lead)


@dataclass(frozen=True)
class FusedNormalisationTerm:
    """Scale or offset of FusedBatchNorm at inference: y = (x - mean) / sqrt(variance + epsilon) * scale + offset.

    Attributes:
        operands: names of x, mean and variance for the scale; none for the offset.
        made: the name of y.
        epsilon: as above.
        channels: how many there are.
    """

    operands: tuple[str, ...]
    made: str
    epsilon: float
    channels: int

    def factors(self, operands: list[Any], gradient: Any, batch: Any) -> Factors:
        """See `Term`."""
        import tensorflow as tf

        change = gradient
        if operands:
            x, mean, variance = operands
            change = gradient * (x - mean) * tf.math.rsqrt(variance + self.epsilon)
        return Whole(tf.reduce_sum(tf.reshape(change, [batch, -1, self.channels]), axis=1))


def fused_normalisation_term(op: Any, position: int) -> FusedNormalisationTerm:
    """The term of FusedBatchNorm.

    Raises:
        NotFactorableError: it makes statistics of the batch, or channels do not come last.
    """
    if op.get_attr("is_training") or op.get_attr("data_format") != b"NHWC" or position not in (1, 2):
        raise NotFactorableError(f"{op.type} in training form, or of channels-first data")
    x, _, _, mean, variance = op.inputs
    names = (x.name, mean.name, variance.name) if position == 1 else ()
    return FusedNormalisationTerm(
        names, op.outputs[0].name, float(op.get_attr("epsilon")), op.inputs[position].shape[0]
    )
