"""Control flow: what runs a graph inside a node."""

from __future__ import annotations

from typing import Any

import onnx

from sidelight_engines.errors import OpProblem
from sidelight_engines.ops.arithmetic import DTYPES
from sidelight_engines.ops.bodies import forms_of_body
from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.registry import NodeForm, find, register


def _covered_body(form: NodeForm) -> str | None:
    body: onnx.GraphProto = form.attributes["body"]
    kinds = {value.type.WhichOneof("value") for value in (*body.input, *body.output)}
    if kinds - {"tensor_type", None}:
        return "it carries sequences or optional values, which are not tensors"
    for inner in forms_of_body(form, body):
        found = find(inner)
        if isinstance(found, OpProblem):
            return f"in its body, {found}"
    return None


@register("Loop", since=1, check=_covered_body)
@register("Loop", since=11, check=_covered_body)
def loop(op: LoweringContext) -> tuple[Tensor, ...]:
    """Runs its body as long as it says so, at most so many times; gives the last state, and what each step adds.

    States keep the shape that they start with.
    """
    tf = op.tf
    body: onnx.GraphProto = op.attribute("body")
    start = tuple(op.input(index) for index in range(2, len(op.tensors)))
    limit, before = op.optional(0), op.optional(1)
    most = None if limit is None else tf.reshape(tf.cast(limit, "int32"), [])
    names = [value.name for value in body.input]
    added = body.output[1 + len(start) :]
    lists = tuple(
        tf.TensorArray(DTYPES[value.type.tensor_type.elem_type], 0, dynamic_size=True, infer_shape=False)
        for value in added
    )

    shapes: list[Any] = [None] * len(lists)

    def run(step: Tensor, going: Tensor, state: Any, lists: Any) -> Any:
        made = op.run_body(body, dict(zip(names, (tf.cast(step, "int64"), going, *state), strict=True)))
        after = tuple(tf.ensure_shape(new, old.shape) for new, old in zip(made[1:], start, strict=False))
        rows = made[1 + len(start) :]
        shapes[:] = [row.shape for row in rows]
        written = tuple(held.write(step, row) for held, row in zip(lists, rows, strict=True))
        return step + 1, tf.reshape(made[0], []), after, written

    first = tf.constant(True) if before is None else tf.reshape(before, [])
    _, _, last, lists = tf.while_loop(
        lambda step, going, state, lists: going,
        run,
        (tf.constant(0), first, start, lists),
        maximum_iterations=most,
    )
    # What a list holds is known only once the body has been traced.
    open_shapes = [tf.TensorShape([None]).concatenate(shape) for shape in shapes]
    scans = [tf.ensure_shape(held.stack(), shape) for held, shape in zip(lists, open_shapes, strict=True)]
    return (*last, *scans)
