"""Models of a few operations as SavedModels in float64, and random ones as ONNX files."""

from __future__ import annotations

import numpy as np
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.model import open_model


def saved_model(function, shapes, folder, dtype="float64"):
    """Opens a model that computes `function` of inputs named a, b, ... of these shapes (without the batch)."""
    import tensorflow as tf

    names = "abcdef"[: len(shapes)]
    specs = [tf.TensorSpec([None, *shape], dtype, name=name) for name, shape in zip(names, shapes, strict=True)]

    class Tiny(tf.Module):
        @tf.function(input_signature=specs)
        def serve(self, *inputs):
            return {"out": function(*inputs)}

    module = Tiny()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return open_model(folder, ModelFormat.SAVED_MODEL)


def onnx_model(nodes, initializers, inputs, output, folder, opset=17):
    """Opens an ONNX model. Inputs: name -> shape without the batch; output: its name."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *shape]) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    folder.mkdir(exist_ok=True)
    onnx.save(onnx.shape_inference.infer_shapes(model), str(folder / "model.onnx"))
    return open_model(folder, ModelFormat.ONNX)
