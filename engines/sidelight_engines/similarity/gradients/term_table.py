"""The table from operations to the terms of their gradients."""

from __future__ import annotations

from sidelight_engines.similarity.gradients.convolution_terms import convolution_term
from sidelight_engines.similarity.gradients.elementwise_terms import elementwise_term, fused_normalisation_term
from sidelight_engines.similarity.gradients.matrix_terms import einsum_term, matrix_term, table_term
from sidelight_engines.similarity.gradients.readings import ImportedGraph, Reading, moved_into_batch
from sidelight_engines.similarity.gradients.terms import NotFactorableError, Term

_MATRIX = frozenset({"BatchMatMulV2", "BatchMatMulV3", "MatMul"})
_CONVOLUTIONS = frozenset({"Conv2D", "Conv2DBackpropInput", "Conv3D", "Conv3DBackpropInputV2", "DepthwiseConv2dNative"})
_ELEMENTWISE = frozenset({"Add", "AddV2", "BiasAdd", "Mul", "Sub"})
_TABLES = frozenset({"Gather", "GatherV2"})


def find_term(imported: ImportedGraph, reading: Reading) -> Term:
    """The term of a reading.

    Raises:
        NotFactorableError: the operation has none.
    """
    op = imported.graph.get_operation_by_name(reading.op)
    others = [tensor for i, tensor in enumerate(op.inputs) if i != reading.position]
    leading = any(moved_into_batch(tensor) for tensor in others)
    if op.type in _MATRIX:
        return matrix_term(op, reading.position, positions_lead=leading)
    if op.type in _CONVOLUTIONS:
        return convolution_term(op, reading.position, positions_lead=leading)
    if op.type in _ELEMENTWISE:
        return elementwise_term(op, reading.position, positions_lead=leading)
    if op.type in _TABLES:
        return table_term(op, reading.position)
    if op.type == "Einsum":
        return einsum_term(op, reading.position)
    if op.type == "FusedBatchNormV3":
        return fused_normalisation_term(op, reading.position)
    raise NotFactorableError(f"{op.type}, which has no factored form")
