"""SavedModels of every make come down to one frozen graph with the author's layers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sidelight_engines.errors import ModelInvalid
from sidelight_engines.graph.onnx_model import read_onnx_model
from sidelight_engines.graph.saved_model import SavedModel, read_saved_model
from sidelight_engines.runtime.onnx_runtime import OnnxRuntime
from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

if TYPE_CHECKING:
    from tests.engines.conftest import Network

KERAS_3 = ["classic", "double_input", "sequential", "reshaping"]

# float32 through a handful of layers; sums of up to 16 * 196 terms may be added in another order.
TOLERANCE = 1e-5


def saved(model: Any, folder: Path, signatures: Any) -> SavedModel:
    import tensorflow as tf

    tf.saved_model.save(model, str(folder), signatures=signatures)
    return read_saved_model(folder)


@pytest.mark.parametrize("name", KERAS_3)
def test_layers_of_a_keras_3_export_have_kerass_names_and_values(networks: dict[str, Network], name: str) -> None:
    network = networks[name]
    model = read_saved_model(network.saved_model)
    inputs = network.instances(3)
    expected = network.layer_values(inputs)
    assert [layer.name for layer in model.graph.layers] == list(expected)

    fed = {model.graph.inputs[0].name: next(iter(inputs.values()))}
    values = TensorFlowRuntime(model.frozen).forward([layer.tensor for layer in model.graph.layers])(fed)
    for layer, value in zip(model.graph.layers, values, strict=True):
        np.testing.assert_allclose(value, expected[layer.name], atol=TOLERANCE, err_msg=layer.name)
        assert layer.shape == (None, *value.shape[1:])
        assert layer.dtype == value.dtype.name
        assert layer.parameter_count == network.keras_model.get_layer(layer.name).count_params()
    assert model.graph.parameter_count == network.keras_model.count_params()


@pytest.mark.parametrize("name", KERAS_3)
def test_layers_of_its_onnx_form_have_the_same_names(networks: dict[str, Network], name: str) -> None:
    network = networks[name]
    model = read_onnx_model(network.onnx)
    inputs = network.instances(3)
    expected = network.layer_values(inputs)
    found = {layer.name: layer for layer in model.graph.layers}
    # A reshape of a flat input to an image can melt into the convolution behind it.
    assert [layer for layer in expected if layer not in found] in ([], ["reshape"])
    assert list(found) == [layer for layer in expected if layer in found]

    fed = {model.graph.inputs[0].name: next(iter(inputs.values()))}
    values = OnnxRuntime(model).forward([layer.tensor for layer in found.values()])(fed)
    for layer, value in zip(found, values, strict=True):
        if value.ndim == 4 and value.shape != expected[layer].shape:
            value = value.transpose(0, 2, 3, 1)
        np.testing.assert_allclose(value, expected[layer], atol=TOLERANCE, err_msg=layer)
        assert found[layer].parameter_count == network.keras_model.get_layer(layer).count_params()


def test_layers_of_a_keras_2_save_include_dropout(networks: dict[str, Network]) -> None:
    model = read_saved_model(networks["keras_2"].saved_model)
    assert [layer.name for layer in model.graph.layers] == [
        *("conv_1", "relu_1", "maxp_1", "drop_1", "conv_2", "relu_2", "maxp_2", "drop_2"),
        *("flat", "dense_1", "relu_3", "drop_3", "dense_2", "softmax"),
    ]
    inputs = networks["keras_2"].instances(2)
    expected = networks["keras_2"].layer_values(inputs)
    values = TensorFlowRuntime(model.frozen).forward([model.graph.layer(name).tensor for name in expected])(inputs)
    for name, value in zip(expected, values, strict=True):
        np.testing.assert_allclose(value, expected[name], atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", [*KERAS_3, "keras_2"])
def test_logits_are_found_behind_the_softmax(networks: dict[str, Network], name: str) -> None:
    model = read_saved_model(networks[name].saved_model)
    (output,) = model.graph.outputs
    assert model.graph.head_ops == {output.name: "Softmax"}
    fed = dict(zip([spec.name for spec in model.graph.inputs], networks[name].instances(2).values(), strict=True))
    logits, scores = TensorFlowRuntime(model.frozen).forward([model.graph.logits[output.name], output.tensor])(fed)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(raised / raised.sum(axis=1, keepdims=True), scores, atol=1e-6)


def test_several_inputs_and_outputs_have_the_signatures_names_in_alphabetical_order(
    networks: dict[str, Network],
) -> None:
    graph = read_saved_model(networks["branching"].saved_model).graph
    assert [(spec.name, spec.shape) for spec in graph.inputs] == [("image", (None, 28, 28, 1)), ("meta", (None, 3))]
    assert [(spec.name, spec.shape) for spec in graph.outputs] == [("flag", (None, 1)), ("kind", (None, 3))]
    assert graph.output_layers == {"flag": "flag", "kind": "kind"}
    assert graph.head_ops == {"flag": "Sigmoid", "kind": "Softmax"}


def test_nested_normalised_and_grouped_layers_are_in_sight(networks: dict[str, Network]) -> None:
    network = networks["branching"]
    model = read_saved_model(network.saved_model)
    names = ["stem", "block1/conv", "block1/bn", "block1/act", "grouped", "depthwise", "pooled", "joined"]
    assert sorted(layer.name for layer in model.graph.layers) == sorted([*names, "kind", "flag"])
    assert model.graph.layer("grouped").parameter_count == 4 * 2 * 9 + 4
    assert [layer.name for layer in model.graph.layers if layer.affine] == ["stem", "block1/conv", "block1/bn"]
    assert not {node.op for node in model.frozen.graph_def.node} & {"PartitionedCall", "StatefulPartitionedCall"}

    inputs = network.instances(3)
    expected = network.layer_values(inputs)
    aliases = {"block1": "block1/act"} | {name: name for name in expected if name != "block1"}
    tensors = [model.graph.layer(alias).tensor for alias in aliases.values()]
    for name, value in zip(aliases, TensorFlowRuntime(model.frozen).forward(tensors)(inputs), strict=True):
        np.testing.assert_allclose(value, expected[name], atol=TOLERANCE, err_msg=name)


def test_inference_normalisation_keeps_two_operations_on_the_way_of_values(networks: dict[str, Network]) -> None:
    layer = read_saved_model(networks["branching"].saved_model).graph.layer("block1/bn")
    assert len(layer.nodes) == 2
    # The scale and the shift are learned; the moving statistics are not.
    assert layer.parameter_count == 8


def test_parameters_are_the_trainable_variables_in_the_order_of_evaluation(networks: dict[str, Network]) -> None:
    from tensorflow import make_ndarray

    network = networks["sequential"]
    frozen = read_saved_model(network.saved_model).frozen
    nodes = {node.name: node for node in frozen.graph_def.node}
    values = [make_ndarray(nodes[name].attr["value"].tensor) for name in frozen.parameters]
    trainable = [np.asarray(variable) for variable in network.keras_model.trainable_variables]
    assert len(values) == len(trainable)
    for value, expected in zip(values, trainable, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_variables_that_are_not_trainable_are_no_parameters(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.w = tf.Variable(tf.ones((4, 3)), name="w")
    module.scale = tf.Variable(2.0, trainable=False, name="scale")

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def serve(x: Any) -> Any:
        return {"p": tf.nn.softmax(x @ module.w * module.scale)}

    model = saved(module, tmp_path, serve)
    assert model.graph.parameter_count == 12
    assert len(model.frozen.parameters) == 1


def test_a_plain_module_has_its_nodes_for_layers(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.w = tf.Variable(tf.ones((4, 3)), name="w")

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def serve(x: Any) -> Any:
        return {"p": tf.nn.softmax(tf.matmul(x, module.w, name="project"), name="scores")}

    graph = saved(module, tmp_path, serve).graph
    assert [(layer.name, layer.op) for layer in graph.layers] == [("project", "MatMul"), ("scores", "Softmax")]


def test_outputs_that_are_not_numbers_are_left_out_and_whole_numbers_come_last(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def serve(x: Any) -> Any:
        best = tf.argmax(x, axis=1)
        return {"best": best, "label": tf.as_string(best), "sure": x[:, 0] > 0, "out_10": x + 1, "out_9": x + 2}

    module = tf.Module()
    graph = saved(module, tmp_path, serve).graph
    assert [spec.name for spec in graph.outputs] == ["out_9", "out_10", "best"]


def test_loops_stay_whole_so_that_gradients_pass(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(5)
    network = keras.Sequential(
        [keras.layers.Input((5, 4)), keras.layers.LSTM(3, name="recurrent"), keras.layers.Dense(2, name="head")]
    )
    network.export(str(tmp_path), verbose=False)
    model = read_saved_model(tmp_path)
    assert [layer.name for layer in model.graph.layers] == ["recurrent", "head"]
    assert model.graph.layer("recurrent").parameter_count == network.layers[0].count_params()
    assert {"While", "StatelessWhile"} & {node.op for node in model.frozen.graph_def.node}


def test_backward_rules_of_the_process_that_wrote_the_file_are_dropped(tmp_path: Path) -> None:
    import keras

    network = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="swish", name="d")])
    network.export(str(tmp_path), verbose=False)
    model = read_saved_model(tmp_path)
    assert model.graph.layers[0].name == "d"
    assert not any("_gradient_op_type" in node.attr for node in model.frozen.graph_def.node)


def test_reading_twice_gives_the_same_graph(networks: dict[str, Network]) -> None:
    path = networks["branching"].saved_model
    first, second = read_saved_model(path), read_saved_model(path)
    assert first.graph == second.graph
    assert first.frozen.parameters == second.frozen.parameters


def remove(path: Path) -> None:
    path.unlink()


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("harm", "file", "message"),
    [
        (remove, "saved_model.pb", "holds no saved_model.pb"),
        (empty, "saved_model.pb", "saved_model.pb in .* is empty"),
        (halve, "saved_model.pb", "saved_model.pb in .* can not be read"),
        (remove, "variables/variables.index", "holds no variables/variables.index"),
        (halve, "variables/variables.index", "variables/ in .* can not be read"),
        (remove, "variables/variables.data-00000-of-00001", "holds no variables/variables.data"),
        (halve, "variables/variables.data-00000-of-00001", "variables/ in .* can not be read"),
    ],
)
def test_a_damaged_file_is_named(
    networks: dict[str, Network], tmp_path: Path, harm: Any, file: str, message: str
) -> None:
    copy = tmp_path / "1"
    shutil.copytree(networks["sequential"].saved_model, copy)
    harm(copy / file)
    with pytest.raises(ModelInvalid, match=message):
        read_saved_model(copy)


def test_missing_variables_are_named(networks: dict[str, Network], tmp_path: Path) -> None:
    shutil.copytree(networks["sequential"].saved_model, tmp_path / "1", ignore=shutil.ignore_patterns("variables"))
    with pytest.raises(ModelInvalid, match="variables/ in 1 can not be read"):
        read_saved_model(tmp_path / "1")


def test_an_unknown_signature_is_answered_with_the_known_ones(networks: dict[str, Network]) -> None:
    with pytest.raises(ModelInvalid, match="no signature 'predict'; it has: serve, serving_default"):
        read_saved_model(networks["sequential"].saved_model, "predict")


def test_a_model_that_looks_up_tables_is_refused_with_the_reason(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    entries = tf.lookup.KeyValueTensorInitializer([1, 2], [1.0, 2.0], tf.int32, tf.float32)
    module.table = tf.lookup.StaticHashTable(entries, 0.0)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32, name="x")])
    def serve(x: Any) -> Any:
        return {"y": module.table.lookup(x)}

    with pytest.raises(ModelInvalid, match="lookup table"):
        saved(module, tmp_path, serve)


def test_a_model_without_numbers_to_explain_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32, name="x")])
    def serve(x: Any) -> Any:
        return {"y": tf.as_string(x)}

    with pytest.raises(ModelInvalid, match="no output that is a dense tensor of numbers"):
        saved(tf.Module(), tmp_path, serve)
