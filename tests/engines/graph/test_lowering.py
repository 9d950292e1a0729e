"""A lowered model computes what ONNX Runtime computes, at every tensor, for any number of rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sidelight_engines.errors import OpProblem, UnsupportedOp
from sidelight_engines.graph.lowering import lower, node_name, uncovered_ops
from sidelight_engines.graph.onnx_model import OnnxModel, describe_onnx_model, read_onnx_model
from sidelight_engines.runtime.gradient_check import CheckState, check_gradient_form
from sidelight_engines.runtime.onnx_runtime import OnnxRuntime
from sidelight_engines.runtime.tensorflow_import import import_frozen
from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

if TYPE_CHECKING:
    from tests.engines.conftest import Network

RANDOM = np.random.default_rng(21)


def _weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array((RANDOM.standard_normal(shape) * 0.4).astype(np.float32), name)


def _model(
    nodes: list[onnx.NodeProto],
    shape: list[Any],
    weights: list[onnx.TensorProto],
    outputs: tuple[str, ...] = ("y",),
    **opsets: int,
) -> OnnxModel:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in ({"": 17} | opsets).items()]
    return describe_onnx_model(helper.make_model(graph, opset_imports=imports, ir_version=8))


def _cnn(batch: Any = "N") -> OnnxModel:
    """A network as PyTorch exports it: names with slashes, and a Reshape to a constant shape."""
    nodes = [
        helper.make_node(
            "Conv", ["x", "conv1.weight", "conv1.bias"], ["/conv1/Conv_output_0"], "/conv1/Conv", pads=[1] * 4
        ),
        helper.make_node("Relu", ["/conv1/Conv_output_0"], ["/relu/Relu_output_0"], "/relu/Relu"),
        helper.make_node(
            "MaxPool",
            ["/relu/Relu_output_0"],
            ["/pool/MaxPool_output_0"],
            "/pool/MaxPool",
            kernel_shape=[2, 2],
            strides=[2, 2],
        ),
        helper.make_node(
            "Conv", ["/pool/MaxPool_output_0", "conv2.weight"], ["/conv2/Conv_output_0"], "/conv2/Conv", group=2
        ),
        helper.make_node("Reshape", ["/conv2/Conv_output_0", "shape"], ["/Reshape_output_0"], "/Reshape"),
        helper.make_node("Gemm", ["/Reshape_output_0", "fc.weight", "fc.bias"], ["logits"], "/fc/Gemm", transB=1),
        helper.make_node("Softmax", ["logits"], ["y"], "/Softmax"),
    ]
    weights = [
        _weight("conv1.weight", 4, 3, 3, 3),
        _weight("conv1.bias", 4),
        _weight("conv2.weight", 6, 2, 2, 2),
        numpy_helper.from_array(np.array([batch if isinstance(batch, int) else 0, -1]), "shape"),
        _weight("fc.weight", 5, 6 * 3 * 3),
        _weight("fc.bias", 5),
    ]
    return _model(nodes, [batch, 3, 8, 8], weights)


def _agree(model: OnnxModel, tensors: list[str], inputs: dict[str, Any]) -> None:
    expected = OnnxRuntime(model).forward(tensors)(inputs)
    found = TensorFlowRuntime(lower(model)).forward(tensors)(inputs)
    for name, want, got in zip(tensors, expected, found, strict=True):
        assert got.shape == want.shape, name
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * max(np.abs(want).max(), 1e-3), err_msg=name)


def test_every_tensor_can_be_fetched_under_its_name_in_its_own_axis_order() -> None:
    model = _cnn()
    tensors = [name for node in model.proto.graph.node for name in node.output]
    _agree(model, tensors, {"x": RANDOM.standard_normal((3, 3, 8, 8)).astype(np.float32)})


def _residual() -> OnnxModel:
    """What stands between convolutions: normalisation, slopes, sums, products with a gate, joins."""
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["c1"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"]),
        helper.make_node("PRelu", ["n1", "slope"], ["a1"]),
        helper.make_node("Conv", ["a1", "k2"], ["c2"], pads=[1] * 4),
        helper.make_node("Add", ["c2", "bias"], ["b2"]),
        helper.make_node("GlobalAveragePool", ["b2"], ["g2"]),
        helper.make_node("Sigmoid", ["g2"], ["s2"]),
        helper.make_node("Mul", ["b2", "s2"], ["m2"]),
        helper.make_node("Add", ["m2", "a1"], ["r2"]),
        helper.make_node("Clip", ["r2", "zero", "six"], ["l2"]),
        helper.make_node("Concat", ["l2", "a1"], ["j2"], axis=1),
        helper.make_node("Sub", ["j2", "x1"], ["d2"]),
        helper.make_node("Conv", ["d2", "k3"], ["c3"]),
        helper.make_node("GlobalMaxPool", ["c3"], ["y"]),
    ]
    weights = [_weight("k1", 4, 3, 3, 3), _weight("k2", 4, 4, 3, 3), _weight("k3", 2, 8, 1, 1)]
    weights += [_weight(name, 4) for name in ("scale", "shift", "mean")]
    weights += [_weight("slope", 4, 1, 1), _weight("bias", 1, 4, 1, 1), _weight("x1", 1)]
    constants = {"variance": [1.0, 2.0, 0.5, 3.0], "zero": 0.0, "six": 6.0}
    weights += [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    return _model(nodes, ["N", 3, 6, 5], weights)


def test_operations_between_convolutions_keep_their_axis_order() -> None:
    model = _residual()
    tensors = [name for node in model.proto.graph.node for name in node.output]
    _agree(model, tensors, {"x": RANDOM.standard_normal((2, 3, 6, 5)).astype(np.float32)})


def test_transposes_meet_between_convolutions_so_that_they_cancel() -> None:
    frozen = lower(_residual())
    nodes = {node.name: node for node in frozen.graph_def.node}
    for name in ("k2", "k3"):
        # From the input of a convolution backwards: to channels-last, from channels-last, then the work.
        (conv,) = (n for n in nodes.values() if n.op == "Conv2D" and _reads(nodes, n.input[1], name))
        assert [nodes[conv.input[0]].op, nodes[nodes[conv.input[0]].input[0]].op] == ["Transpose", "Transpose"]


def _reads(nodes: dict[str, Any], name: str, constant: str) -> bool:
    return name == constant or any(_reads(nodes, source, constant) for source in nodes[name].input if source in nodes)


def test_weights_are_the_parameters_in_the_order_of_evaluation() -> None:
    frozen = lower(_cnn())
    assert frozen.parameters == ("conv1.weight", "conv1.bias", "conv2.weight", "fc.weight", "fc.bias")
    constants = {node.name for node in frozen.graph_def.node if node.op == "Const"}
    assert constants.issuperset(frozen.parameters)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_length_is_freed(batch: int) -> None:
    model = _cnn(batch)
    assert model.graph.inputs[0].shape[0] == batch
    _agree(model, ["y", "/Reshape_output_0"], {"x": RANDOM.standard_normal((5, 3, 8, 8)).astype(np.float32)})
    reference, candidate = OnnxRuntime(model), TensorFlowRuntime(lower(model))
    assert check_gradient_form(model.graph, reference, candidate).state is CheckState.PASSED


def test_layers_and_weights_can_be_differentiated_by() -> None:
    import tensorflow as tf

    frozen = lower(_cnn())

    @tf.function(autograph=False)
    def gradients(x: Any) -> Any:
        names = ["x", "/conv1/Conv_output_0", "/relu/Relu_output_0", *(f"{name}:0" for name in frozen.parameters)]
        y, *sources = import_frozen(frozen, {"x": x}, ["logits", *names])
        return tf.gradients(y[:, 0], sources)

    found = gradients(tf.random.stateless_normal((2, 3, 8, 8), (1, 2)))
    assert [tuple(g.shape) for g in found[:3]] == [(2, 3, 8, 8), (2, 4, 8, 8), (2, 4, 8, 8)]
    assert [tuple(g.shape) for g in found[3:]] == [(4, 3, 3, 3), (4,), (6, 2, 2, 2), (5, 54), (5,)]
    assert all(np.any(g.numpy()) for g in found)


def test_shape_arithmetic_leaves_only_the_batch_free() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Slice", ["s", "one", "three"], ["rest"]),
        helper.make_node("ReduceProd", ["rest"], ["size"]),
        helper.make_node("Div", ["size", "two"], ["half"]),
        helper.make_node("Unsqueeze", ["n", "zero_list"], ["n1"]),
        helper.make_node("Cast", ["n1"], ["n1c"], to=TensorProto.INT64),
        helper.make_node("Concat", ["n1c", "half", "two"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": 0, "one": [1], "three": [3], "two": [2], "zero_list": [0]}
    model = _model(
        nodes, ["N", 4, 6], [numpy_helper.from_array(np.asarray(v, np.int64), n) for n, v in constants.items()]
    )
    import tensorflow as tf

    frozen = lower(model)
    with tf.Graph().as_default():
        (y,) = tf.graph_util.import_graph_def(frozen.graph_def, return_elements=[frozen.tensor("y")], name="")
        assert y.shape.as_list() == [None, 12, 2]
    _agree(model, ["y"], {"x": RANDOM.standard_normal((3, 4, 6)).astype(np.float32)})


def test_weights_made_by_constant_nodes_are_parameters_too() -> None:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=_weight("", 4, 2)),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    frozen = lower(_model(nodes, ["N", 4], []))
    assert frozen.parameters == ("w",)


def test_what_no_explainable_output_needs_is_not_lowered() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Det", ["y"], ["unused"]),
    ]
    model = _model(nodes, ["N", 3, 3], [])
    assert uncovered_ops(model) == ()
    assert "unused" not in lower(model).tensors


def test_labels_that_can_not_be_lowered_do_not_keep_the_scores_from_it() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("NonZero", ["y"], ["label"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, None),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    model = describe_onnx_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert uncovered_ops(model) == ()
    assert {"y"} <= set(lower(model).tensors)
    assert "label" not in lower(model).tensors


def test_all_operations_that_are_not_covered_are_named() -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["d"], "inner/det"),
        helper.make_node("Gelu", ["d"], ["g"], domain="com.microsoft"),
        helper.make_node("BatchNormalization", ["g", "s", "s", "s", "s"], ["y"], "bn", training_mode=1),
    ]
    model = _model(nodes, ["N", 3, 3], [_weight("s", 1)], **{"com.microsoft": 1})
    problems = uncovered_ops(model)
    assert [(p.node, p.op, p.domain, p.opset) for p in problems] == [
        ("inner/det", "Det", "", 17),
        ("Gelu_1", "Gelu", "com.microsoft", 1),
        ("bn", "BatchNormalization", "", 17),
    ]
    assert "training" in problems[2].reason
    with pytest.raises(UnsupportedOp) as raised:
        lower(model)
    assert raised.value.problems == problems


def _gemm(opset: int) -> OnnxModel:
    return _model([helper.make_node("Gemm", ["x", "w"], ["y"])], ["N", 4], [_weight("w", 4, 2)], **{"": opset})


def test_gemm_before_opset_11_needs_a_bias() -> None:
    (problem,) = uncovered_ops(_gemm(10))
    assert problem == OpProblem("Gemm_0", "Gemm", "", 10, "before opset 11 the third input must be given")
    assert uncovered_ops(_gemm(11)) == ()


def test_an_opset_that_nobody_has_read_is_refused() -> None:
    (problem,) = uncovered_ops(_gemm(99))
    assert "newest that is covered" in problem.reason


def test_operations_of_later_opsets_are_refused_in_earlier_ones() -> None:
    model = _model([helper.make_node("Gelu", ["x"], ["y"])], ["N", 4], [], **{"": 19})
    (problem,) = uncovered_ops(model)
    assert "from opset 20 on" in problem.reason


def test_a_form_that_only_lowering_can_refuse_names_its_node() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["k"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["k", "one"], ["k1"]),
        helper.make_node("Squeeze", ["x", "k1"], ["y"], "squeeze"),
    ]
    model = _model(nodes, ["N", 1], [numpy_helper.from_array(np.array([1]), "one")])
    assert uncovered_ops(model) == ()
    with pytest.raises(UnsupportedOp, match=r"'squeeze'.*computed"):
        lower(model)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/conv1/Conv", "conv1/Conv"),
        ("a b:0", "a_b_0"),
        ("_x", "._x"),
        ("näh", "n_h"),
        ("onnx::MatMul_3", "onnx__MatMul_3"),
    ],
)
def test_node_names_keep_what_tensorflow_allows(name: str, expected: str) -> None:
    assert node_name(name) == expected


def test_names_that_become_equal_stay_apart() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a:b"], "n:1"),
        helper.make_node("Neg", ["a:b"], ["a_b"], "n_1"),
        helper.make_node("Add", ["a:b", "a_b"], ["y"], "n 1"),
    ]
    _agree(_model(nodes, ["N", 3], []), ["a:b", "a_b", "y"], {"x": RANDOM.standard_normal((2, 3)).astype(np.float32)})


def test_what_is_covered_is_known_without_tensorflow() -> None:
    program = (
        "import sys\n"
        "from sidelight_engines.graph import lowering\n"
        "from sidelight_engines.ops import registered\n"
        "from sidelight_engines.runtime import gradient_check\n"
        "assert len(registered()) > 100\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["classic", "double_input", "reshaping"])
def test_networks_exported_by_keras_agree_with_onnx_runtime(networks: dict[str, Network], name: str) -> None:
    network = networks[name]
    given = network.instances(3)
    (array,) = given.values()
    network.keras_model(array)  # Keras exports only what has been called
    model = read_onnx_model(network.onnx)
    spec = model.graph.inputs[0]
    tensors = [model.graph.outputs[0].tensor, *(layer.tensor for layer in model.graph.layers)]
    _agree(model, tensors, {spec.name: array})


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    rows, labels = load_digits(return_X_y=True)
    return rows.astype(np.float32), labels


def _scikit_learn(name: str, digits: tuple[Any, Any]) -> Any:
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

    _, labels = digits
    halves = labels > 4
    match name:
        case "mlp":
            return MLPClassifier((16,), max_iter=8, random_state=0), labels
        case "binary_mlp":
            return MLPClassifier((16,), max_iter=8, activation="tanh", random_state=0), halves
        case "mlp_regressor":
            return MLPRegressor(hidden_layer_sizes=(8,), max_iter=8, random_state=0), labels
        case "logistic":
            return LogisticRegression(max_iter=20), labels
        case "binary_logistic":
            return LogisticRegression(max_iter=20), halves
        case "linear":
            return LinearRegression(), labels
        case _:
            pipeline = make_pipeline(
                StandardScaler(), MinMaxScaler(), Normalizer(name), LogisticRegression(max_iter=20)
            )
            return pipeline, labels


@pytest.mark.parametrize(
    "name", ["mlp", "binary_mlp", "mlp_regressor", "logistic", "binary_logistic", "linear", "l1", "l2", "max"]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_models_of_scikit_learn_agree_with_onnx_runtime(name: str, digits: tuple[Any, Any], tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    estimator, targets = _scikit_learn(name, digits)
    estimator.fit(digits[0], targets)
    (tmp_path / "model.onnx").write_bytes(to_onnx(estimator, digits[0][:1]).SerializeToString())
    model = read_onnx_model(tmp_path / "model.onnx")
    assert model.graph.outputs[0].dtype == "float32"
    # Scores first, labels with them.
    _agree(model, [spec.tensor for spec in model.graph.outputs], {"X": digits[0][:20]})
    learned = sum(model.parameters.values())
    final = estimator[-1] if hasattr(estimator, "steps") else estimator
    arrays = [*final.coefs_, *final.intercepts_] if hasattr(final, "coefs_") else [final.coef_, final.intercept_]
    # A logistic regression of two classes is written as two opposite rows.
    assert learned == sum(np.size(array) for array in arrays) * (2 if name == "binary_logistic" else 1)
