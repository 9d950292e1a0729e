"""Loops that are unrolled compute what they computed, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sidelight_engines.errors import UnsupportedOp
from sidelight_engines.graph.freezing import fold_constants
from sidelight_engines.graph.unrolling import LONGEST_LOOP, has_loops, loop_of, unroll

X = np.random.default_rng(3).standard_normal((2, 5, 3)).astype(np.float32)


def _graph(function: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, None, 3)) -> tuple[Any, str]:
    """The flat graph of a function of one input, and the name of its output."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        made = tf.identity(function(tf.compat.v1.placeholder("float32", shape, "x")), "out")
    return fold_constants(graph.as_graph_def(), ["x:0"], [made.name]), made.name


def _run(graph_def: Any, output: str, x: Any) -> Any:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        return session.run(output, {"x:0": x})


def _recurrent(x: Any) -> Any:
    """A state that is doubled, decays and takes in a step, over time; every state is kept."""
    import tensorflow as tf

    steps = tf.shape(x)[1]
    rows = tf.TensorArray("float32", steps).unstack(tf.transpose(x, [1, 0, 2]))
    weights = tf.constant(np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32))

    def step(at: Any, state: Any, made: Any) -> Any:
        after = tf.tanh(tf.matmul(state, weights) + rows.read(at))
        return at + 1, after, made.write(at, after)

    start = (tf.constant(0), tf.zeros([tf.shape(x)[0], 3]), tf.TensorArray("float32", steps))
    _, _, made = tf.while_loop(lambda at, *_: at < steps, step, start)
    return tf.transpose(made.stack(), [1, 0, 2])


def _nested(x: Any) -> Any:
    """Adds x as often as 1 + 2 + 3 times, by a loop in a loop."""
    import tensorflow as tf

    def outer(i: Any, total: Any) -> Any:
        def inner(j: Any, total: Any) -> Any:
            return j + 1, total + x

        _, total = tf.while_loop(lambda j, _: j <= i, inner, (tf.constant(0), total))
        return i + 1, total

    return tf.while_loop(lambda i, _: i < 3, outer, (tf.constant(0), tf.zeros_like(x)))[1]


def _growing(x: Any) -> Any:
    """A list without a length in the beginning, written to by a loop that stops on a flag."""
    import tensorflow as tf

    def step(at: Any, going: Any, made: Any) -> Any:
        return at + 1, tf.cast(at + 1, "float32") < 3.0, made.write(at, x[:, 0] * tf.cast(at, "float32"))

    start = (tf.constant(0), tf.constant(True), tf.TensorArray("float32", 0, dynamic_size=True))
    return tf.while_loop(lambda _, going, __: going, step, start)[2].stack()


@pytest.mark.parametrize("function", [_recurrent, _nested, _growing])
def test_unrolled_graph_computes_the_same_without_loops(function: Callable[[Any], Any]) -> None:
    graph_def, output = _graph(function)
    unrolled = unroll(graph_def, {"x": (None, 5, 3)})
    assert has_loops(graph_def)
    assert not has_loops(unrolled)
    assert not any(node.op.startswith("TensorList") for node in unrolled.node)
    np.testing.assert_allclose(_run(unrolled, output, X), _run(graph_def, output, X), rtol=1e-6, atol=1e-7)


def test_what_does_not_change_from_step_to_step_is_copied_once() -> None:
    graph_def, output = _graph(_recurrent)
    unrolled = fold_constants(unroll(graph_def, {"x": (None, 5, 3)}), ["x:0"], [output])
    types = [node.op for node in unrolled.node]
    # The state that the first step reads is zero whatever the input, but its number of rows is not known.
    assert types.count("MatMul") == 5
    matrices = [node for node in unrolled.node if node.op == "Const" and node.attr["value"].tensor.ByteSize() > 36]
    assert len([node for node in matrices if len(node.attr["value"].tensor.tensor_shape.dim) == 2]) == 1


def test_copied_nodes_are_named_after_their_loop_and_others_keep_their_names() -> None:
    graph_def, output = _graph(_recurrent)
    unrolled = unroll(graph_def, {"x": (None, 5, 3)})
    outside = {node.name for node in graph_def.node}
    loops = {node.name for node in graph_def.node if node.op in ("While", "StatelessWhile")}
    copied = {loop_of(node.name) for node in unrolled.node if node.name not in outside}
    assert loops <= copied
    assert output.partition(":")[0] in {node.name for node in unrolled.node}


def test_loop_that_depends_on_values_is_refused_by_name() -> None:
    import tensorflow as tf

    def until_large(x: Any) -> Any:
        return tf.while_loop(lambda y: tf.reduce_sum(y) < 100, lambda y: (y * 2,), (tf.abs(x) + 1,))[0]

    graph_def, _ = _graph(until_large)
    with pytest.raises(UnsupportedOp, match="depends on the values of the inputs") as refused:
        unroll(graph_def, {"x": (None, 5, 3)})
    assert refused.value.problems[0].op in ("While", "StatelessWhile")


def test_loop_of_unknown_length_is_refused() -> None:
    graph_def, _ = _graph(_recurrent)
    with pytest.raises(UnsupportedOp, match="depends on the values of the inputs"):
        unroll(graph_def, {})


def test_long_loop_is_refused_with_the_limit() -> None:
    graph_def, _ = _graph(_recurrent)
    with pytest.raises(UnsupportedOp, match=f"more than {LONGEST_LOOP} times"):
        unroll(graph_def, {"x": (None, LONGEST_LOOP + 1, 3)})
