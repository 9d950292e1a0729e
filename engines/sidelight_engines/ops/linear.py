"""Matrix products."""

from __future__ import annotations

from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.registry import NodeForm, register


def _bias_is_given(form: NodeForm) -> str | None:
    return None if form.has_input(2) else "before opset 11 the third input must be given"


@register("Gemm", since=1, check=_bias_is_given)
@register("Gemm", since=7, check=_bias_is_given)
@register("Gemm", since=11)
def gemm(op: LoweringContext) -> Tensor:
    """Alpha A' B' + beta C, with A' and B' transposed on demand; C broadcasts and may be left out."""
    product = op.tf.matmul(
        op.input(0),
        op.input(1),
        transpose_a=bool(op.attribute("transA", 0)),
        transpose_b=bool(op.attribute("transB", 0)),
    )
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    if alpha != 1.0:
        product = op.tf.cast(op.number(alpha, product) * product, product.dtype)
    bias = op.optional(2)
    if bias is None or beta == 0.0:
        return product
    return _shifted(op, product, bias if beta == 1.0 else op.number(beta, bias) * bias)


def _shifted(op: LoweringContext, product: Tensor, bias: Tensor) -> Tensor:
    # BiasAdd where it means the same: it says by its name what the addend is.
    if bias.shape.rank == 1 and bias.shape[0] is not None and bias.shape[0] == product.shape[-1]:
        return op.tf.nn.bias_add(product, bias)
    return product + bias


@register("MatMul", since=1)
def matmul(op: LoweringContext) -> Tensor:
    """Matrix product of the last two axes; the others broadcast, and a vector counts as a row or a column."""
    tf, a, b = op.tf, op.input(0), op.input(1)
    rank_a, rank_b = op.rank(0), op.rank(1)
    if rank_a == 1 and rank_b == 1:
        return tf.reduce_sum(a * b)
    if rank_b == 1:
        return tf.linalg.matvec(a, b)
    if rank_a == 1:
        return tf.linalg.matvec(b, a, transpose_a=True)
    if rank_b == 2 and rank_a > 2:
        # One product of many rows; a batched one would make a gradient for B per batch entry.
        lengths = op.lengths(a)
        rows = tf.reshape(a, [-1, lengths[-1]])
        return op.reshape(tf.matmul(rows, b), [*lengths[:-1], op.lengths(b)[-1]])
    return tf.matmul(a, b)


@register("Einsum", since=12)
def einsum(op: LoweringContext) -> Tensor:
    """Sum of products in index notation."""
    return op.tf.einsum(op.attribute("equation").replace(" ", ""), *op.inputs())
