"""ONNX files are read into a checked model and a description that says what its file says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sidelight_engines.errors import ModelInvalid
from sidelight_engines.graph.graph import ModelFormat, TensorSpec
from sidelight_engines.graph.onnx_model import OnnxModel, describe_onnx_model, read_onnx_model

RANDOM = np.random.default_rng(5)


def _weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RANDOM.standard_normal(shape).astype(np.float32), name)


def _value(name: str, shape: Any = None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: list[onnx.TensorProto],
    *,
    ir_version: int = 8,
    **opsets: int,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    imports = [helper.make_opsetid(domain.replace("_", "."), v) for domain, v in ({"": 17} | opsets).items()]
    return helper.make_model(
        graph, opset_imports=imports, ir_version=ir_version, producer_name="hand", producer_version="1.2"
    )


def _mlp(**changes: Any) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "fc1/MatMul"),
        helper.make_node("Add", ["h", "b1"], ["hb"], "fc1/Add"),
        helper.make_node("Relu", ["hb"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"], "fc2", transB=1),
        helper.make_node("Softmax", ["z"], ["p"], "head"),
    ]
    weights = [_weight("w1", 6, 5), _weight("b1", 5), _weight("w2", 3, 5), _weight("b2", 3)]
    return _model(nodes, [_value("x", ["N", 6])], [_value("p", ["N", 3])], weights, **changes)


def _read(model: onnx.ModelProto, folder: Path) -> OnnxModel:
    onnx.save(model, folder / "model.onnx")
    return read_onnx_model(folder / "model.onnx")


def test_graph_says_what_the_file_says(tmp_path: Path) -> None:
    graph = _read(_mlp(), tmp_path).graph
    assert graph.format is ModelFormat.ONNX
    assert graph.producer == "hand 1.2"
    assert graph.inputs == (TensorSpec("x", "x", "float32", (None, 6)),)
    assert graph.outputs == (TensorSpec("p", "p", "float32", (None, 3)),)
    assert graph.logits == {"p": "z"}
    assert graph.head_ops == {"p": "Softmax"}
    assert graph.parameter_count == 6 * 5 + 5 + 3 * 5 + 3
    assert graph.layer("z").shape == (None, 3)


def test_nodes_without_a_name_are_called_after_operation_and_position() -> None:
    model = _mlp()
    model.graph.node[4].name = "fc2"
    assert describe_onnx_model(model).names == ("fc1/MatMul", "fc1/Add", "Relu_2", "fc2", "fc2_1")


def test_reading_imports_neither_tensorflow_nor_onnx_runtime(tmp_path: Path) -> None:
    _read(_mlp(), tmp_path)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from sidelight_engines.graph.onnx_model import read_onnx_model\n"
        "from sidelight_engines.graph.lowering import uncovered_ops\n"
        "from sidelight_engines.runtime.onnx_runtime import OnnxRuntime\n"
        f"model = read_onnx_model(Path({str(tmp_path / 'model.onnx')!r}))\n"
        "assert uncovered_ops(model) == ()\n"
        "assert not {'tensorflow', 'onnxruntime', 'grpc'} & set(sys.modules)\n"
        "runtime = OnnxRuntime(model).forward(['p'])\n"
        "assert 'onnxruntime' in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_initializers_that_old_files_list_as_inputs_are_not_inputs() -> None:
    model = _mlp(ir_version=3)
    model.graph.input.extend(_value(w.name, list(w.dims)) for w in model.graph.initializer)
    onnx.checker.check_model(model)
    assert [spec.name for spec in describe_onnx_model(model).graph.inputs] == ["x"]


def test_external_data_beside_the_file_is_read(tmp_path: Path) -> None:
    model = _mlp()
    expected = numpy_helper.to_array(model.graph.initializer[0])
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    read = read_onnx_model(tmp_path / "model.onnx")
    np.testing.assert_array_equal(numpy_helper.to_array(read.constants["w1"]), expected)


def test_missing_external_data_makes_the_model_invalid(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_mlp(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelInvalid, match=r"model\.data"):
        read_onnx_model(path)


def test_shortened_external_data_makes_the_model_invalid(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_mlp(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    (tmp_path / "model.data").write_bytes(b"1234")
    with pytest.raises(ModelInvalid):
        read_onnx_model(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08", None])
def test_what_is_no_model_is_invalid(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelInvalid, match=r"model\.onnx is not a valid ONNX model: \S"):
        read_onnx_model(path)


def test_a_file_cut_off_anywhere_is_invalid(tmp_path: Path) -> None:
    content = _mlp().SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelInvalid):
            read_onnx_model(path)


def test_names_that_are_no_text_make_the_model_invalid(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_mlp().SerializeToString().replace(b"hand", b"\xff\xfe\xfd\xfc"))
    with pytest.raises(ModelInvalid, match="UTF-8"):
        read_onnx_model(path)


def test_zip_map_is_cut_and_scores_come_before_labels() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        helper.make_node("ZipMap", ["scores"], ["pairs"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
        helper.make_node("Identity", ["pairs"], ["output_probability"]),
    ]
    pairs = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, []))
    )
    outputs = [_value("label", ["N"], TensorProto.INT64), helper.make_value_info("output_probability", pairs)]
    model = _model(nodes, [_value("x", ["N", 4])], outputs, [_weight("w", 4, 2)], ai_onnx_ml=1)
    graph = describe_onnx_model(model).graph
    assert [layer.op for layer in graph.layers] == ["MatMul", "ArgMax"]
    assert graph.outputs == (
        TensorSpec("output_probability", "scores", "float32", (None, 2)),
        TensorSpec("label", "label", "int64", (None,)),
    )


def test_outputs_that_are_text_or_truth_values_are_left_out() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Cast", ["x"], ["text"], to=TensorProto.STRING),
        helper.make_node("Greater", ["x", "y"], ["above"]),
    ]
    outputs = [_value("text", ["N"], TensorProto.STRING), _value("above", ["N"], TensorProto.BOOL), _value("y", ["N"])]
    model = _model(nodes, [_value("x", ["N"])], outputs, [])
    assert [spec.name for spec in describe_onnx_model(model).graph.outputs] == ["y"]


def test_a_model_with_nothing_but_text_to_give_is_invalid() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["text"], to=TensorProto.STRING)]
    model = _model(nodes, [_value("x", ["N"])], [_value("text", ["N"], TensorProto.STRING)], [])
    with pytest.raises(ModelInvalid, match="no output"):
        describe_onnx_model(model)


def test_shapes_go_on_behind_operations_of_scikit_learn() -> None:
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
        helper.make_node("Normalizer", ["y"], ["n"], domain="ai.onnx.ml", norm="L1"),
    ]
    model = _model(nodes, [_value("x", ["N", 4])], [_value("n")], [_weight("w", 4, 2)], ai_onnx_ml=1)
    assert describe_onnx_model(model).graph.outputs[0].shape == (None, 2)


def _parameters(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], **opsets: int) -> dict[str, int]:
    output = nodes[-1].output[0]
    model = _model(nodes, [_value("x", ["N", 4, 4, 4])], [_value(output)], constants, **opsets)
    return dict(describe_onnx_model(model).parameters)


def test_weights_of_layers_are_learned_and_statistics_are_not() -> None:
    constants = [_weight("k", 8, 4, 3, 3), _weight("kb", 8), *(_weight(n, 8) for n in ("g", "o", "m", "v"))]
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "g", "o", "m", "v"], ["y"]),
    ]
    assert _parameters(nodes, constants) == {"k": 8 * 4 * 9, "kb": 8, "g": 8, "o": 8}


def test_shapes_bounds_and_scalars_are_not_learned() -> None:
    scalar = numpy_helper.from_array(np.float32(0.5), "half")
    shape = numpy_helper.from_array(np.array([0, -1]), "shape")
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["m"]),
        helper.make_node("Clip", ["m", "half"], ["c"]),
        helper.make_node("Mul", ["c", "half"], ["y"]),
    ]
    assert _parameters(nodes, [scalar, shape, _weight("w", 64, 2)]) == {"w": 128}


def test_preprocessing_of_the_inputs_is_not_learned() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["m"]),
        helper.make_node("Add", ["m", "shift"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["h"]),
        helper.make_node("Add", ["h", "bias"], ["b"]),
        helper.make_node("Mul", ["b", "gain"], ["y"]),
    ]
    constants = [_weight(n, 4) for n in ("mean", "scale", "shift", "bias", "gain")]
    assert _parameters(nodes, [*constants, _weight("w", 4, 4)]) == {"w": 16, "bias": 4, "gain": 4}


def test_weights_reach_their_slot_through_rearrangements_and_constant_nodes() -> None:
    nodes = [
        helper.make_node("Transpose", ["wt"], ["w"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.ones(3, np.float32))),
        helper.make_node("Add", ["b", "h"], ["y"]),
    ]
    assert _parameters(nodes, [_weight("wt", 3, 4)]) == {"wt": 12, "b": 3}


def test_weights_in_attributes_are_learned() -> None:
    nodes = [
        helper.make_node(
            "LinearRegressor", ["x"], ["y"], "lin", domain="ai.onnx.ml", coefficients=[1.0, 2.0], intercepts=[3.0]
        )
    ]
    model = _model(nodes, [_value("x", ["N", 2])], [_value("y")], [], ai_onnx_ml=1)
    described = describe_onnx_model(model)
    assert described.parameters == {"lin/coefficients": 2, "lin/intercepts": 1}
    assert described.graph.layers[-1].parameter_count == 3


def test_embedding_tables_are_learned() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["y"]),
    ]
    assert _parameters(nodes, [_weight("table", 10, 3)]) == {"table": 30}


def test_local_functions_are_inlined() -> None:
    body = [helper.make_node("MatMul", ["a", "b"], ["p"]), helper.make_node("Relu", ["p"], ["q"])]
    function = helper.make_function("local", "Dense", ["a", "b"], ["q"], body, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Dense", ["x", "w"], ["y"], domain="local")]
    model = _model(nodes, [_value("x", ["N", 4])], [_value("y", ["N", 2])], [_weight("w", 4, 2)], local=1)
    model.functions.append(function)
    described = describe_onnx_model(model)
    assert [node.op_type for node in described.proto.graph.node] == ["MatMul", "Relu"]
    assert described.parameters == {"w": 8}


def test_a_subgraph_depends_on_what_it_reads_from_around_it() -> None:
    branches = {
        name: helper.make_graph([helper.make_node(op, ["x"], [f"{op}_out"])], name, [], [_value(f"{op}_out", ["N"])])
        for name, op in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    condition = numpy_helper.from_array(np.array(True), "condition")
    nodes = [helper.make_node("If", ["condition"], ["y"], **branches)]
    model = _model(nodes, [_value("x", ["N"])], [_value("y", ["N"])], [condition])
    graph = describe_onnx_model(model).graph
    # Were its input not seen, the layer would be a constant, and none at all.
    assert [layer.op for layer in graph.layers] == ["If"]


@pytest.mark.parametrize(("mode", "affine"), [(0, True), (1, False)])
def test_batch_normalisation_in_training_mode_is_not_affine(mode: int, affine: bool) -> None:
    nodes = [helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], "bn", training_mode=mode)]
    weights = [_weight(name, 5) for name in "gbmv"]
    graph = describe_onnx_model(_model(nodes, [_value("x", ["N", 5])], [_value("y", ["N", 5])], weights)).graph
    assert [layer.affine for layer in graph.layers] == [affine]


@pytest.mark.parametrize(("transform", "heads"), [("NONE", {}), ("LOGISTIC", {"p": "Softmax"})])
def test_a_linear_classifier_of_two_classes_is_known_by_what_the_file_sets(transform: str, heads: Any) -> None:
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "p"],
        "linear",
        domain="ai.onnx.ml",
        coefficients=[-1.0, 2.0, 1.0, -2.0],
        intercepts=[0.5, -0.5],
        classlabels_ints=[0, 1],
        post_transform=transform,
    )
    outputs = [_value("label", ["N"], TensorProto.INT64), _value("p", ["N", 2])]
    model = _model([node], [_value("x", ["N", 2])], outputs, [], ai_onnx_ml=3)
    assert describe_onnx_model(model).graph.head_ops == heads
