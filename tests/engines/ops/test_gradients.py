"""Gradients of lowered operations agree with finite differences of their own forward pass.

The forward pass is what test_node_cases compares with ONNX's expectations; here, in double precision,

    dL/dx . d  =  (L(x + h d) - L(x - h d)) / 2h + O(h^2)

for random directions d in every floating-point input, weights included, and L the sum of the output times a
random tensor. Inputs are drawn away from kinks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from evaluate import evaluate, one_node_model
from sidelight_engines.graph.lowering import lower

RANDOM = np.random.default_rng(11)
STEP = 1e-6
DIRECTIONS = 3


def _normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape)


def _apart(*shape: int) -> Any:
    """Distinct numbers at least 0.05 apart from each other and from 0, 1/2, and 1: no ties, no kinks."""
    count = int(np.prod(shape))
    grid = (np.arange(count) - count // 2) * 0.11 + 0.047
    return RANDOM.permutation(grid).reshape(shape)


@dataclass(frozen=True)
class Representative:
    op: str
    inputs: dict[str, Any]
    opset: int = 17
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.op, *(f"{name}={value}" for name, value in self.attributes.items())]).replace(" ", "")


def _case(op: str, opset: int = 17, /, *arrays: Any, **attributes: Any) -> Representative:
    return Representative(op, {f"i{n}": array for n, array in enumerate(arrays)}, opset, attributes)


X4 = _apart(2, 3, 6, 5)
CASES = [
    # Linear
    _case("Gemm", 17, _normal(3, 4), _normal(5, 4), _normal(5), transB=1, alpha=0.5, beta=2.0),
    _case("MatMul", 17, _normal(2, 3, 4), _normal(4, 5)),
    _case("MatMul", 17, _normal(2, 3, 4), _normal(2, 4, 5)),
    _case("Einsum", 17, _normal(2, 3, 4), _normal(4, 5), equation="bij,jk->bik"),
    # Convolution: plain, padded unevenly, strided, dilated, in groups, depthwise, along one and three axes.
    _case("Conv", 17, X4, _normal(4, 3, 3, 2), _normal(4), pads=[1, 0, 2, 1], strides=[2, 1]),
    _case("Conv", 17, X4, _normal(4, 3, 3, 2), _normal(4), auto_pad="SAME_LOWER", strides=[2, 2]),
    _case("Conv", 17, X4, _normal(4, 3, 2, 2), _normal(4), dilations=[2, 3], pads=[1, 1, 1, 2], strides=[2, 1]),
    _case("Conv", 17, _apart(2, 4, 5, 5), _normal(6, 2, 3, 3), group=2, pads=[1, 1, 1, 1]),
    _case("Conv", 17, X4, _normal(6, 1, 3, 3), _normal(6), group=3, pads=[1, 1, 1, 1], strides=[2, 2]),
    _case("Conv", 17, X4, _normal(6, 1, 3, 3), group=3, strides=[2, 1]),
    _case("Conv", 17, X4, _normal(3, 1, 2, 2), group=3, dilations=[2, 2]),
    _case("Conv", 17, _apart(2, 3, 9), _normal(4, 3, 3), _normal(4), pads=[2, 0], strides=[2]),
    _case("ConvTranspose", 17, _apart(2, 4, 3, 4), _normal(4, 2, 3, 3), _normal(2), strides=[2, 2], pads=[1, 0, 1, 1]),
    _case("ConvTranspose", 17, _apart(2, 4, 3, 4), _normal(4, 2, 2, 2), group=2, dilations=[2, 1], strides=[3, 3]),
    _case("ConvTranspose", 17, _apart(2, 4, 5), _normal(4, 2, 3), strides=[2], output_padding=[1]),
    # Pooling
    _case("MaxPool", 17, X4, kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 1]),
    _case("MaxPool", 17, X4, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    _case("AveragePool", 17, X4, kernel_shape=[3, 3], pads=[1, 1, 0, 1], strides=[2, 2]),
    _case(
        "AveragePool", 17, X4, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1, ceil_mode=1, strides=[2, 2]
    ),
    _case("GlobalAveragePool", 17, X4),
    _case("GlobalMaxPool", 17, X4),
    # Normalisation
    _case("BatchNormalization", 17, X4, *(_normal(3) for _ in range(3)), np.array([0.5, 1.0, 2.0])),
    _case("InstanceNormalization", 17, X4, _normal(3), _normal(3)),
    _case("LayerNormalization", 17, _normal(2, 3, 4), _normal(4), _normal(4)),
    _case("GroupNormalization", 21, _normal(2, 4, 3), _normal(4), _normal(4), num_groups=2),
    _case("RMSNormalization", 23, _normal(2, 3, 4), _normal(4)),
    _case("LpNormalization", 17, _normal(3, 4), axis=1, p=2),
    _case("LRN", 17, X4, size=3, alpha=0.1),
    # Activations
    *(_case(op, 20, _apart(3, 7)) for op in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus")),
    *(
        _case(op, 20, _apart(3, 7))
        for op in ("Sigmoid", "Tanh", "Softsign", "HardSwish", "HardSigmoid", "Erf", "Shrink")
    ),
    _case("ThresholdedRelu", 17, _apart(3, 7), alpha=0.3),
    _case("PRelu", 17, _apart(3, 7), _normal(7)),
    _case("Clip", 17, _apart(3, 7), np.array(-0.5), np.array(0.6)),
    _case("Softmax", 11, _normal(2, 3, 4), axis=1),
    _case("Softmax", 17, _normal(2, 3, 4), axis=1),
    _case("LogSoftmax", 17, _normal(3, 4)),
    # Arithmetic and reductions
    _case("Pow", 17, np.abs(_apart(3, 4)), _normal(4)),
    _case("Div", 17, _normal(3, 4), _apart(4)),
    _case("Max", 17, _apart(3, 4), _apart(3, 4) + 0.03),
    _case("Mean", 17, _normal(3, 4), _normal(4)),
    *(
        _case(op, 17, _apart(3, 4), axes=[1])
        for op in ("ReduceMean", "ReduceMax", "ReduceL1", "ReduceL2", "ReduceProd")
    ),
    _case("ReduceLogSumExp", 17, _normal(3, 4), axes=[0], keepdims=0),
    # Rearrangement
    _case("Pad", 17, _normal(2, 3, 4), np.array([0, 1, 0, 0, 0, 2]), mode="reflect"),
    _case("Slice", 17, _normal(4, 6), np.array([-1]), np.array([-6]), np.array([1]), np.array([-2])),
    _case("Gather", 17, _normal(5, 3), np.array([[0, -1], [2, 2]])),
    _case("Expand", 17, _normal(2, 1, 3), np.array([2, 4, 3])),
    _case("Trilu", 17, _normal(2, 4, 4), np.array(1)),
    _case("DepthToSpace", 17, _normal(1, 8, 2, 3), blocksize=2, mode="CRD"),
    _case("Resize", 17, X4, None, np.array([1, 1, 1.5, 2], np.float32), mode="linear"),
    _case("Resize", 17, X4, None, np.array([1, 1, 2, 2], np.float32), mode="nearest"),
    # Recurrence: time, batch, inputs; kernels of 3 hidden units; offsets, lengths, initial states, peepholes.
    _case("RNN", 14, _normal(4, 2, 3), _normal(1, 3, 3), _normal(1, 3, 3), _normal(1, 6), hidden_size=3),
    _case(
        "GRU",
        14,
        *(_normal(4, 2, 3), _normal(2, 9, 3), _normal(2, 9, 3), _normal(2, 18), np.array([4, 2], np.int32)),
        *(_normal(2, 2, 3),),
        direction="bidirectional",
        hidden_size=3,
    ),
    _case(
        "GRU",
        14,
        *(_normal(4, 2, 3), _normal(1, 9, 3), _normal(1, 9, 3), _normal(1, 18)),
        linear_before_reset=1,
        hidden_size=3,
    ),
    _case(
        "LSTM",
        14,
        *(_normal(4, 2, 3), _normal(1, 12, 3), _normal(1, 12, 3), _normal(1, 24), np.array([3, 4], np.int32)),
        *(_normal(1, 2, 3), _normal(1, 2, 3), _normal(1, 9)),
        direction="reverse",
        hidden_size=3,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_agrees_with_finite_differences(case: Representative) -> None:
    import tensorflow as tf

    fed = [name for name, array in case.inputs.items() if np.asarray(array).dtype == np.float64][:1]
    model = one_node_model(
        case.op, case.inputs, fed=fed, opset=case.opset, output_type=onnx.TensorProto.DOUBLE, **case.attributes
    )
    frozen = lower(model)
    sources = {name: np.asarray(array) for name, array in case.inputs.items() if np.asarray(array).dtype == np.float64}
    with tf.Graph().as_default() as graph:
        fresh = {name: tf.compat.v1.placeholder(array.dtype, array.shape) for name, array in sources.items()}
        mapped = {frozen.inputs.get(name, frozen.tensor(name)): tensor for name, tensor in fresh.items()}
        (y,) = tf.graph_util.import_graph_def(frozen.graph_def, mapped, [frozen.tensor("y")], name="")
        cotangent = tf.constant(np.random.default_rng(2).standard_normal(evaluate(frozen, sources, ["y"])[0].shape))
        loss = tf.reduce_sum(y * cotangent)
        # Gather gives the gradient of its table as slices.
        dense = [tf.convert_to_tensor(gradient) for gradient in tf.gradients(loss, list(fresh.values()))]
        gradients = dict(zip(fresh, dense, strict=True))
    with tf.compat.v1.Session(graph=graph) as session:

        def at(values: dict[str, Any]) -> float:
            return float(session.run(loss, {fresh[name]: value for name, value in values.items()}))

        found = session.run(gradients, {fresh[name]: value for name, value in sources.items()})
        for name, array in sources.items():
            for seed in range(DIRECTIONS):
                step = np.random.default_rng(seed).standard_normal(array.shape) * STEP
                difference = (at(sources | {name: array + step}) - at(sources | {name: array - step})) / 2
                expected = difference / STEP
                np.testing.assert_allclose(
                    (found[name] * step).sum() / STEP, expected, rtol=1e-5, atol=1e-6, err_msg=name
                )
