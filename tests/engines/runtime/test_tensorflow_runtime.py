"""The frozen graph runs like the model it came from, and can be differentiated."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sidelight_engines.errors import InvalidField, UnknownLayer
from sidelight_engines.graph.saved_model import SavedModel, read_saved_model
from sidelight_engines.runtime.runtime import RuntimeKind
from sidelight_engines.runtime.tensorflow_import import import_frozen
from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

if TYPE_CHECKING:
    from tests.engines.conftest import Network


@pytest.fixture(scope="module")
def classic(networks: dict[str, Network]) -> SavedModel:
    return read_saved_model(networks["classic"].saved_model)


@pytest.fixture(scope="module")
def branching(networks: dict[str, Network]) -> SavedModel:
    return read_saved_model(networks["branching"].saved_model)


def outputs(model: SavedModel) -> list[str]:
    return [spec.tensor for spec in model.graph.outputs]


@pytest.mark.parametrize("rows", [1, 2, 65])
def test_any_number_of_rows_gives_the_signatures_outputs(
    branching: SavedModel, networks: dict[str, Network], rows: int
) -> None:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(networks["branching"].saved_model))
    inputs = networks["branching"].instances(rows)
    expected = loaded.signatures["serving_default"](**{name: tf.constant(value) for name, value in inputs.items()})
    values = TensorFlowRuntime(branching.frozen).forward(outputs(branching))(inputs)
    for spec, value in zip(branching.graph.outputs, values, strict=True):
        np.testing.assert_allclose(value, expected[spec.name].numpy(), atol=1e-6)


def test_tensors_come_in_the_order_asked_for_and_may_repeat(classic: SavedModel, networks: dict[str, Network]) -> None:
    runtime = TensorFlowRuntime(classic.frozen)
    first, last = classic.graph.layer("conv_1").tensor, classic.graph.layer("softmax").tensor
    inputs = networks["classic"].instances(2)
    late, early, again = runtime.forward([last, first, last])(inputs)
    assert (late.shape, early.shape) == ((2, 10), (2, 28, 28, 8))
    np.testing.assert_array_equal(late, again)


def test_an_input_can_be_fetched_like_any_tensor(classic: SavedModel, networks: dict[str, Network]) -> None:
    inputs = networks["classic"].instances(2)
    (value,) = TensorFlowRuntime(classic.frozen).forward(["input:0"])(inputs)
    np.testing.assert_array_equal(value, inputs["input"])


def test_an_input_that_nothing_reads_is_taken(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name=name) for name in ("a", "b")])
    def serve(a: Any, b: Any) -> Any:
        del b
        return {"y": a * 3.0}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=serve)
    model = read_saved_model(tmp_path)
    ones = np.ones((2, 2), np.float32)
    (value,) = TensorFlowRuntime(model.frozen).forward(outputs(model))({"a": ones, "b": ones})
    np.testing.assert_array_equal(value, 3 * ones)


def test_a_function_is_traced_once_for_all_batch_lengths(
    classic: SavedModel, networks: dict[str, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sidelight_engines.runtime.tensorflow_passes as module

    traced = itertools.count()
    original = module.import_frozen
    monkeypatch.setattr(module, "import_frozen", lambda *args: (next(traced), original(*args))[1])
    runtime = TensorFlowRuntime(classic.frozen)
    for rows in (1, 3, 7):
        runtime.forward(outputs(classic))(networks["classic"].instances(rows))
    assert next(traced) == 1


def test_the_functions_used_least_lately_are_forgotten(classic: SavedModel) -> None:
    runtime = TensorFlowRuntime(classic.frozen)
    tensors = [layer.tensor for layer in classic.graph.layers]
    first = runtime.forward(tensors[:1])
    for tensor in tensors[1:8]:
        runtime.forward([tensor])
    assert runtime.forward(tensors[:1]) is first
    for tensor in tensors[1:9]:
        runtime.forward([tensor])
    assert runtime.forward(tensors[:1]) is not first


def test_threads_share_one_runtime(classic: SavedModel, networks: dict[str, Network]) -> None:
    runtime = TensorFlowRuntime(classic.frozen)
    tensors = [layer.tensor for layer in classic.graph.layers]
    inputs = networks["classic"].instances(2)
    expected = {tensor: runtime.forward([tensor])(inputs)[0] for tensor in tensors}
    runtime = TensorFlowRuntime(classic.frozen)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda tensor: (tensor, runtime.forward([tensor])(inputs)[0]), tensors * 4)
        for tensor, value in found:
            np.testing.assert_array_equal(value, expected[tensor])


def test_results_are_views_of_tensorflows_memory(classic: SavedModel, networks: dict[str, Network]) -> None:
    (value,) = TensorFlowRuntime(classic.frozen).forward(outputs(classic))(networks["classic"].instances(2))
    assert not value.flags.owndata
    assert not value.flags.writeable


def test_a_fixed_batch_length_takes_any_number_of_rows(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((4, 2), tf.float32, name="x")])
    def serve(x: Any) -> Any:
        return {"y": tf.reshape(x, (4, 2)) * 2.0}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=serve)
    model = read_saved_model(tmp_path)
    forward = TensorFlowRuntime(model.frozen).forward(outputs(model))
    for rows in (1, 4, 10):
        x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        np.testing.assert_array_equal(forward({"x": x})[0], 2 * x)


def test_values_are_cast_to_the_inputs_type(classic: SavedModel, networks: dict[str, Network]) -> None:
    forward = TensorFlowRuntime(classic.frozen).forward(outputs(classic))
    inputs = networks["classic"].instances(2)
    wide = {name: np.asfortranarray(value.astype(np.float64)) for name, value in inputs.items()}
    np.testing.assert_array_equal(forward(wide)[0], forward(inputs)[0])


def test_what_a_model_does_not_take_is_refused_by_field(branching: SavedModel, networks: dict[str, Network]) -> None:
    forward = TensorFlowRuntime(branching.frozen).forward(outputs(branching))
    good = networks["branching"].instances(2)
    cases = {
        "inputs.meta": [
            {"image": good["image"]},
            good | {"meta": np.zeros((2, 4), np.float32)},
            good | {"meta": np.zeros(2, np.float32)},
        ],
        "inputs": [
            good | {"meta": good["meta"][:1]},
            {name: value[:0] for name, value in good.items()},
        ],
    }
    for field, all_bad in cases.items():
        for bad in all_bad:
            with pytest.raises(InvalidField) as caught:
                forward(bad)
            assert caught.value.field == field


def test_an_unknown_tensor_is_refused(classic: SavedModel) -> None:
    with pytest.raises(UnknownLayer, match="no layer 'input_0:0'"):
        TensorFlowRuntime(classic.frozen).forward(["input_0:0"])


def test_the_kind_is_tensorflow(classic: SavedModel) -> None:
    assert TensorFlowRuntime(classic.frozen, threads=None).kind is RuntimeKind.TENSORFLOW


@pytest.mark.parametrize("name", ["classic", "sequential", "branching", "keras_2"])
def test_gradients_of_inputs_and_parameters_equal_kerass(networks: dict[str, Network], name: str) -> None:
    import tensorflow as tf

    network = networks[name]
    model = read_saved_model(network.saved_model)
    values = [tf.constant(value) for value in network.instances(3).values()]
    constants = [f"{parameter}:0" for parameter in model.frozen.parameters]

    @tf.function
    def differentiate(*values: Any) -> Any:
        given = dict(zip([spec.name for spec in model.graph.inputs], values, strict=True))
        made, *weights = import_frozen(model.frozen, given, [model.graph.outputs[0].tensor, *constants])
        return tf.gradients(made[:, 0], [*values, *weights])

    with tf.GradientTape() as tape:
        tape.watch(values)
        made = network.keras_model(values, training=False)
        chosen = made["flag"] if isinstance(made, dict) else made
        target = chosen[:, 0]
    expected = tape.gradient(target, [*values, *network.keras_model.trainable_variables])
    found = differentiate(*values)
    assert len(found) == len(expected)
    rest = [np.asarray(grad) for grad in expected if grad is not None]
    for grad in (grad for grad in found if grad is not None):
        # Parallel branches may come in another order than Keras lists them.
        index = next(
            i for i, other in enumerate(rest) if other.shape == grad.shape and np.allclose(other, grad, atol=1e-5)
        )
        rest.pop(index)
    assert not rest


def test_a_nodes_backward_rule_can_be_replaced(classic: SavedModel, networks: dict[str, Network]) -> None:
    import tensorflow as tf

    @tf.RegisterGradient("TestThatReluIsPassedThrough")
    def pass_through(op: Any, gradient: Any) -> Any:
        del op
        return gradient

    changed = tf.compat.v1.GraphDef.FromString(classic.frozen.graph_def.SerializeToString())
    for node in changed.node:
        if node.op == "Relu":
            node.attr["_gradient_op_type"].s = b"TestThatReluIsPassedThrough"
    x = tf.constant(networks["classic"].instances(2)["input"]) - 0.5
    relu, conv = (classic.graph.layer(name).tensor for name in ("relu_1", "conv_1"))

    @tf.function
    def differentiate(x: Any) -> Any:
        top, bottom = import_frozen(classic.frozen, {"input": x}, [relu, conv], changed)
        return tf.gradients(top, bottom)[0], bottom

    gradient, below = differentiate(x)
    assert (below.numpy() < 0).any()
    np.testing.assert_array_equal(gradient.numpy(), 1.0)


@pytest.mark.parametrize("weights", [np.full(3, 1 / 3), np.array([2.0, -1.0, 0.5])])
def test_sums_over_rows_are_those_of_the_rows_fetched(
    classic: SavedModel, networks: dict[str, Network], weights: np.ndarray
) -> None:
    runtime = TensorFlowRuntime(classic.frozen)
    inner, last = classic.graph.layer("relu_1").tensor, classic.graph.layer("softmax").tensor
    inputs = networks["classic"].instances(6)
    rows, expected = runtime.forward([inner, last])(inputs)
    (sums,), (fetched,) = runtime.summing([inner], [last], side_by_side=False)(inputs, weights)
    np.testing.assert_allclose(
        sums, np.einsum("s,is...->i...", weights, rows.reshape(2, 3, *rows.shape[1:])), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(fetched, expected, atol=1e-6)


def test_a_segment_goes_on_from_the_tensors_given(classic: SavedModel, networks: dict[str, Network]) -> None:
    runtime = TensorFlowRuntime(classic.frozen)
    begin, end = classic.graph.layer("maxp_1").tensor, classic.graph.layer("conv_2").tensor
    given, expected = runtime.forward([begin, end])(networks["classic"].instances(4))
    (found,) = runtime.segment([begin], [end], side_by_side=True)({begin: given})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(UnknownLayer):
        runtime.segment(["nothing:0"], [end], side_by_side=True)
