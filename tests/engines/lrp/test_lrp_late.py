"""What the way back adds to the forward pass is computed when relevance comes, not with the forward pass."""

from __future__ import annotations

import numpy as np
import pytest
from sidelight_engines.lrp import AlphaBeta, Epsilon, Gamma, LrpParameters, Rule, RuleMap, propagate_relevance
from sidelight_engines.lrp.running import passes
from sidelight_engines.lrp.running.program import LrpProgram
from tiny_models import saved_model

SIDE, CHANNELS = 6, 4


@pytest.mark.parametrize(
    "rule", [Epsilon(1e-6), AlphaBeta(2.0, 1.0), Gamma(0.25)], ids=["epsilon", "alpha-beta", "gamma"]
)
def test_nothing_that_a_rule_computes_from_the_forward_pass_runs_before_relevance_comes(
    rule: Rule, tmp_path, monkeypatch
) -> None:
    import tensorflow as tf

    random = np.random.default_rng(0)
    kernels = [random.normal(size=(3, 3, i, CHANNELS)).astype(np.float32) for i in (1, CHANNELS, CHANNELS)]
    last = random.normal(size=(CHANNELS, 3)).astype(np.float32)

    def compute(x):
        first = tf.nn.relu(tf.nn.conv2d(x, kernels[0], 1, "SAME") + 0.1)
        block = tf.nn.conv2d(tf.nn.relu(tf.nn.conv2d(first, kernels[1], 1, "SAME")), kernels[2], 1, "SAME")
        return tf.matmul(tf.reduce_mean(tf.nn.relu(first + block), [1, 2]), last)

    model = saved_model(compute, [(SIDE, SIDE, 1)], tmp_path / "m")
    programs: list[LrpProgram] = []

    def kept(*arguments):
        programs.append(LrpProgram(*arguments))
        return programs[0]

    monkeypatch.setattr(passes, "LrpProgram", kept)
    x = np.abs(random.normal(size=(2, SIDE, SIDE, 1))).astype(np.float32)
    propagate_relevance(model, {model.graph.inputs[0].name: x}, LrpParameters(RuleMap(otherwise=rule)))
    operations = programs[0]._function._function.graph.get_operations()
    logits = next(op for op in operations if op.type == "MatMul")
    forward = _above(logits) | {logits.name}
    # Tensors of the image's size or a hidden layer's, made from the forward pass.
    large = [op for op in operations if op.name not in forward and any(_holds_planes(made) for made in op.outputs)]
    assert len(large) > 10
    early = [op.name for op in large if logits.name not in _above(op) and _above(op) & forward]
    assert early == []


def _holds_planes(tensor) -> bool:
    return tensor.dtype.is_floating and tensor.shape.rank == 4 and tensor.shape[1] == SIDE


def _above(op) -> set[str]:
    """The names of all operations that one waits for."""
    found: set[str] = set()
    todo = [op]
    while todo:
        current = todo.pop()
        for read in [*(tensor.op for tensor in current.inputs), *current.control_inputs]:
            if read.name not in found:
                found.add(read.name)
                todo.append(read)
    return found
