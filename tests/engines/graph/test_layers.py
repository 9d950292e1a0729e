"""Layers carry the names that the model's author gave them, whatever wrote the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from sidelight_engines.graph.graph import Graph, Layer, ModelFormat, TensorSpec
from sidelight_engines.graph.layers import build_graph
from sidelight_engines.graph.step import Step, TensorType


def step(name: str, op: str, *inputs: str, dtype: str = "float32") -> Step:
    """A TensorFlow-like step: its one output is ``<name>:0``."""
    return Step(name, op, inputs, (f"{name}:0",), {f"{name}:0": TensorType(dtype, (None, 2))})


def describe(
    steps: Sequence[Step],
    output: str,
    *,
    inputs: Sequence[str] = ("x",),
    parameters: Mapping[str, int] | None = None,
    scopes: Sequence[str] = (),
) -> Graph:
    return build_graph(
        ModelFormat.ONNX,
        "hand",
        steps,
        [TensorSpec(name, name, "float32", (None, 2)) for name in inputs],
        [TensorSpec("out", output, "float32", (None, 2))],
        parameters or {},
        scopes,
    )


def names(graph: Graph) -> list[str]:
    return [layer.name for layer in graph.layers]


def chain(*nodes: tuple[str, str]) -> list[Step]:
    """Steps that read one another in a row, beginning with ``x``."""
    steps: list[Step] = []
    for name, op in nodes:
        source = steps[-1].outputs[0] if steps else "x"
        operands = (source, f"{name}/w") if op in ("MatMul", "Conv2D", "BiasAdd", "Add") else (source,)
        steps.append(step(name, op, *operands))
    return steps


KERAS_3 = [
    ("StatefulPartitionedCall/functional_1/conv_1_1/convolution", "Conv2D"),
    ("StatefulPartitionedCall/functional_1/conv_1_1/BiasAdd", "BiasAdd"),
    ("StatefulPartitionedCall/functional_1/relu_1_1/Relu", "Relu"),
    ("StatefulPartitionedCall/functional_1/dense_1/MatMul", "MatMul"),
    ("StatefulPartitionedCall/functional_1/softmax_1/Softmax", "Softmax"),
    ("StatefulPartitionedCall/Identity", "Identity"),
    ("Func/StatefulPartitionedCall/output/_9", "Identity"),
    ("Identity", "Identity"),
]


@pytest.mark.parametrize("scopes", [(), ("conv_1", "dense")], ids=["by uniformity", "by variables"])
def test_the_number_that_keras_3_puts_behind_every_scope_is_stripped(scopes: Sequence[str]) -> None:
    graph = describe(chain(*KERAS_3), "Identity:0", scopes=scopes)
    assert names(graph) == ["conv_1", "relu_1", "dense", "softmax"]


def test_a_numbered_layer_beside_its_unnumbered_namesake_keeps_its_own_number() -> None:
    # Keras 3 opens each scope twice: conv2d becomes conv2d_1, and conv2d_1 has to give way to conv2d_1_2.
    steps = chain(
        ("sequential_1/conv2d_1/convolution", "Conv2D"),
        ("sequential_1/conv2d_1_2/convolution", "Conv2D"),
        ("sequential_1/conv2d_2_1/convolution", "Conv2D"),
    )
    for scopes in ((), ("conv2d", "conv2d_1", "conv2d_2")):
        assert names(describe(steps, steps[-1].outputs[0], scopes=scopes)) == ["conv2d", "conv2d_1", "conv2d_2"]


def test_an_authors_number_is_kept_where_the_framework_adds_none() -> None:
    steps = chain(("model/conv_1/Conv2D", "Conv2D"), ("model/conv_2/Conv2D", "Conv2D"), ("model/relu_1/Relu", "Relu"))
    for scopes in ((), ("conv_1", "conv_2")):
        assert names(describe(steps, steps[-1].outputs[0], scopes=scopes)) == ["conv_1", "conv_2", "relu_1"]


def test_variables_outrank_a_uniform_number() -> None:
    # The second model of a Keras 2 session: all these numbers are the author's.
    steps = chain(("sequential_1/conv2d_1/Conv2D", "Conv2D"), ("sequential_1/dense_1/MatMul", "MatMul"))
    graph = describe(steps, steps[-1].outputs[0], scopes=("conv2d_1", "dense_1"))
    assert names(graph) == ["conv2d_1", "dense_1"]


def test_keras_2_is_known_by_how_it_reads_its_kernels() -> None:
    steps = [
        step("sequential_1/conv2d_1/BiasAdd", "Conv", "x", "sequential_1/conv2d_1/Conv2D/ReadVariableOp:0"),
        step("sequential_1/re_lu_1/Relu", "Relu", "sequential_1/conv2d_1/BiasAdd:0"),
    ]
    assert names(describe(steps, "sequential_1/re_lu_1/Relu:0")) == ["conv2d_1", "re_lu_1"]


def test_a_layer_that_is_called_twice_is_listed_twice() -> None:
    steps = [
        step("functional_1/shared_1/MatMul", "MatMul", "x", "w"),
        step("functional_1/shared_3/MatMul", "MatMul", "functional_1/shared_1/MatMul:0", "w"),
    ]
    graph = describe(steps, "functional_1/shared_3/MatMul:0", parameters={"w": 4}, scopes=("shared",))
    assert names(graph) == ["shared", "shared_3"]
    assert [layer.parameter_count for layer in graph.layers] == [4, 4]
    assert graph.parameter_count == 4


def test_dropout_at_inference_is_a_layer_and_plumbing_is_not() -> None:
    steps = chain(
        ("StatefulPartitionedCall/model/dense/MatMul", "MatMul"),
        ("StatefulPartitionedCall/model/drop_1/Identity", "Identity"),
        ("StatefulPartitionedCall/Identity", "Identity"),
        ("Identity", "Identity"),
    )
    graph = describe(steps, "Identity:0")
    assert names(graph) == ["dense", "drop_1"]
    assert graph.output_layers == {"out": "drop_1"}


def test_layers_of_a_nested_model_are_called_by_their_path() -> None:
    steps = chain(
        ("functional_1/stem_1/convolution", "Conv2D"),
        ("functional_1/block1_1/conv_1/convolution", "Conv2D"),
        ("functional_1/block1_1/bn_1/batchnorm/mul_1", "Mul"),
        ("functional_1/block1_1/bn_1/batchnorm/add_1", "Add"),
    )
    for scopes in ((), ("stem", "block1/conv", "block1/bn")):
        assert names(describe(steps, steps[-1].outputs[0], scopes=scopes)) == ["stem", "block1/conv", "block1/bn"]


def test_unnumbered_scopes_inside_a_layer_are_the_frameworks_own() -> None:
    steps = chain(("model/dense/MatMul", "MatMul"), ("model/custom/inner/Relu", "Relu"), ("model/custom/Neg", "Neg"))
    graph = describe(steps, "model/custom/Neg:0", scopes=("dense",))
    assert names(graph) == ["dense", "custom"]
    assert graph.layers[1].nodes == ("model/custom/inner/Relu", "model/custom/Neg")


@pytest.mark.parametrize("scopes", [(), ("depthwise", "block/einsum")])
def test_an_author_may_name_a_layer_like_a_scope_of_the_framework(scopes: Sequence[str]) -> None:
    steps = chain(("f_1/depthwise_1/depthwise", "Conv2D"), ("f_1/block_1/einsum_1/einsum/Einsum", "Einsum"))
    found = names(describe(steps, steps[-1].outputs[0], scopes=scopes))
    # Only the variables tell that the inner one is a layer.
    assert found == ["depthwise", "block/einsum" if scopes else "block"]


def test_a_layer_that_goes_on_in_layers_inside_it_does_not_claim_its_name() -> None:
    # Attention: the product of scores and values still goes through the output projection.
    steps = [
        step("model/mha/query/MatMul", "MatMul", "x", "w"),
        step("model/mha/Softmax", "Softmax", "model/mha/query/MatMul:0"),
        step("model/mha/out/MatMul", "MatMul", "model/mha/Softmax:0", "v"),
    ]
    graph = describe(steps, "model/mha/out/MatMul:0", scopes=("mha/query", "mha/out"))
    assert names(graph) == ["mha/query", "mha/Softmax", "mha/out"]


def test_a_block_that_ends_outside_its_inner_layers_bears_its_own_name() -> None:
    steps = [
        step("model/block/conv/Conv2D", "Conv2D", "x", "w"),
        step("model/block/Add", "Add", "model/block/conv/Conv2D:0", "x"),
        step("model/head/MatMul", "MatMul", "model/block/Add:0", "v"),
    ]
    graph = describe(steps, "model/head/MatMul:0", scopes=("conv", "head"))
    assert names(graph) == ["block/conv", "block", "head"]


def test_pytorch_modules_are_called_by_their_qualified_names() -> None:
    steps = chain(
        ("/conv1/Conv", "Conv2D"),
        ("/Relu", "Relu"),
        ("/layer1/layer1.0/conv2/Conv", "Conv2D"),
        ("/layer1/layer1.0/Sigmoid", "Sigmoid"),
        ("/layers/layers.1/Gemm", "MatMul"),
    )
    assert names(describe(steps, steps[-1].outputs[0])) == [
        "conv1",
        "Relu",
        "layer1.0.conv2",
        "layer1.0",
        "layers.1",
    ]


def test_nodes_without_scopes_are_layers_by_their_own_names() -> None:
    steps = [
        Step("Mul", "MatMul", ("x", "w"), ("product",)),
        Step("", "Add", ("product", "b"), ("sum",)),
        Step("act", "Relu", ("sum",), ("y",)),
    ]
    graph = describe(steps, "y")
    assert names(graph) == ["Mul", "sum", "act"]
    assert graph.layer("product").name == "Mul"


def test_two_layers_never_share_a_name() -> None:
    steps = chain(("m/Relu/Relu", "Relu"), ("m/Relu", "Relu"), ("m/a/MatMul", "MatMul"))
    found = names(describe(steps, steps[-1].outputs[0]))
    assert len(set(found)) == 3
    assert found[0] == "Relu"


def test_what_tf2onnx_adds_belongs_to_the_layer_that_it_reads_from() -> None:
    steps = [
        step("functional_1/conv_1/BiasAdd__6", "Reshape", "x", "c"),
        step("functional_1/conv_1/BiasAdd", "Conv2D", "functional_1/conv_1/BiasAdd__6:0", "w"),
        step("functional_1/relu_1/Relu", "Relu", "functional_1/conv_1/BiasAdd:0"),
        # Named after conv, but it moves the axes of relu's output.
        step("functional_1/conv_1/BiasAdd__21", "Transpose", "functional_1/relu_1/Relu:0"),
        step("functional_1/pool_1/Mean", "GlobalAveragePool", "functional_1/conv_1/BiasAdd__21:0"),
        step("functional_1/pool_1/Mean_Squeeze__45", "Squeeze", "functional_1/pool_1/Mean:0"),
    ]
    graph = describe(steps, "functional_1/pool_1/Mean_Squeeze__45:0")
    assert {layer.name: layer.tensor for layer in graph.layers} == {
        "conv": "functional_1/conv_1/BiasAdd:0",
        "relu": "functional_1/relu_1/Relu:0",
        "pool": "functional_1/pool_1/Mean_Squeeze__45:0",
    }


def flattening() -> list[Step]:
    return [
        step("m/flat/Shape", "Shape", "x"),
        step("m/flat/Pack", "Pack", "m/flat/Shape:0", "c"),
        step("m/flat/Reshape", "Reshape", "x", "m/flat/Pack:0"),
        step("m/sizes/Shape", "Shape", "m/flat/Reshape:0"),
        step("m/scale/Mul", "Mul", "m/flat/Reshape:0", "m/sizes/Shape:0"),
    ]


def test_layers_of_shapes_and_constants_alone_are_left_out() -> None:
    graph = describe(flattening(), "m/scale/Mul:0")
    assert names(graph) == ["flat", "scale"]
    assert graph.layers[0].nodes == ("m/flat/Reshape",)


def test_a_layers_tensor_is_the_last_that_leaves_it() -> None:
    steps = [
        step("m/both/Relu", "Relu", "x"),
        step("m/both/Tanh", "Tanh", "m/both/Relu:0"),
        step("m/both/Neg", "Neg", "m/both/Tanh:0"),
        step("m/sum/Add", "Add", "m/both/Relu:0", "m/both/Tanh:0"),
        step("m/use/Add", "Add", "m/sum/Add:0", "m/sum/Add:0"),
    ]
    # Nothing reads Neg, and two layers read Relu and Tanh.
    graph = describe(steps, "m/use/Add:0")
    assert graph.layer("both").tensor == "m/both/Tanh:0"
    assert graph.layer("both").op == "Tanh"


def test_a_graph_output_inside_a_layer_leaves_it() -> None:
    steps = [step("m/a/MatMul", "MatMul", "x", "w"), step("m/a/Softmax", "Softmax", "m/a/MatMul:0")]
    steps.append(step("m/b/Neg", "Neg", "m/a/MatMul:0"))
    graph = describe(steps, "m/a/Softmax:0")
    assert graph.layer("a").tensor == "m/a/Softmax:0"
    assert graph.output_layers == {"out": "a"}


def test_learned_constants_are_found_through_what_only_passes_them_on() -> None:
    steps = [
        step("m/conv/Read", "Identity", "kernel"),
        step("m/conv/Reshape", "Reshape", "bias", "shape"),
        step("m/conv/Squeeze", "Squeeze", "m/conv/Reshape:0"),
        step("m/conv/Conv2D", "Conv2D", "x", "m/conv/Read:0"),
        step("m/conv/BiasAdd", "BiasAdd", "m/conv/Conv2D:0", "m/conv/Squeeze:0"),
        step("m/act/Relu", "Relu", "m/conv/BiasAdd:0"),
    ]
    graph = describe(steps, "m/act/Relu:0", parameters={"kernel": 12, "bias": 3})
    assert [layer.parameter_count for layer in graph.layers] == [15, 0]
    assert graph.parameter_count == 15


def test_layers_before_the_first_nonlinearity_are_affine() -> None:
    steps = chain(("m/a/MatMul", "MatMul"), ("m/b/BiasAdd", "BiasAdd"), ("m/c/Relu", "Relu"), ("m/d/MatMul", "MatMul"))
    graph = describe(steps, steps[-1].outputs[0])
    assert [layer.affine for layer in graph.layers] == [True, True, False, False]


@pytest.mark.parametrize("op", ["Softmax", "Sigmoid"])
def test_the_logits_are_what_the_head_reads(op: str) -> None:
    steps = chain(
        ("m/d/MatMul", "MatMul"), (f"m/h/{op}", op), ("m/r/Reshape", "Reshape"), ("c", "Cast"), ("i", "Identity")
    )
    graph = describe(steps, "i:0")
    assert graph.logits == {"out": "m/d/MatMul:0"}
    assert graph.head_ops == {"out": op}
    assert graph.output_layers == {"out": "r"}


def test_a_softmax_inside_the_model_is_no_head() -> None:
    steps = chain(("m/s/Softmax", "Softmax"), ("m/d/MatMul", "MatMul"))
    graph = describe(steps, "m/d/MatMul:0")
    assert graph.logits == {}
    assert graph.head_ops == {}


def test_a_cast_to_whole_numbers_hides_a_head() -> None:
    steps = [*chain(("m/s/Softmax", "Softmax")), step("c", "Cast", "m/s/Softmax:0", dtype="int32")]
    assert describe(steps, "c:0").head_ops == {}


def test_a_linear_classifier_of_scikit_learn_has_a_head_without_logits() -> None:
    steps = [
        Step("LinearClassifier", "LinearClassifier", ("x",), ("label", "raw")),
        Step("Normalizer", "Normalizer", ("raw",), ("probabilities",)),
    ]
    graph = describe(steps, "probabilities")
    assert graph.head_ops == {"out": "Softmax"}
    assert graph.logits == {}
    assert graph.output_layers == {"out": "Normalizer"}


@pytest.mark.parametrize(("transform", "heads"), [("LOGISTIC", {"out": "Softmax"}), ("NONE", {})])
def test_a_linear_classifier_of_two_classes_is_known_by_its_transform(transform: str, heads: Mapping[str, str]) -> None:
    attributes = {"post_transform": transform}
    steps = [Step("c", "LinearClassifier", ("x",), ("label", "probabilities"), attributes=attributes)]
    assert describe(steps, "probabilities").head_ops == heads


def test_lists_of_dictionaries_are_no_layers() -> None:
    steps = [Step("c", "LinearClassifier", ("x",), ("label", "scores")), Step("ZipMap", "ZipMap", ("scores",), ("z",))]
    assert names(describe(steps, "scores")) == ["c"]


def test_an_output_that_only_plumbing_makes_still_has_a_layer() -> None:
    graph = describe([step("Identity", "Identity", "x")], "Identity:0")
    assert names(graph) == ["Identity"]
    assert graph.output_layers == {"out": "Identity"}


def test_tensors_that_no_one_can_read_are_no_layers_output() -> None:
    steps = [
        step("m/rnn/List", "TensorListFromTensor", "x", dtype="variant"),
        step("m/loop/While", "While", "m/rnn/List:0"),
    ]
    assert names(describe(steps, "m/loop/While:0")) == ["loop"]


def test_layers_come_in_the_order_of_evaluation() -> None:
    steps = [
        step("m/late/Relu", "Relu", "x"),
        step("m/early/Relu", "Relu", "x"),
        step("m/late/Add", "Add", "m/late/Relu:0", "m/early/Relu:0"),
    ]
    graph = describe(steps, "m/late/Add:0")
    assert names(graph) == ["early", "late"]


def test_a_layer_knows_its_shape_and_type() -> None:
    layer: Layer = describe(chain(("m/a/Relu", "Relu"), ("m/b/Neg", "Neg")), "m/b/Neg:0").layers[0]
    assert (layer.dtype, layer.shape) == ("float32", (None, 2))
