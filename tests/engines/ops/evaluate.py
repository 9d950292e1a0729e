"""Evaluates the TensorFlow form of an ONNX model in the plainest way, for comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import onnx
from onnx import helper
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.graph.lowering import lower
from sidelight_engines.graph.onnx_model import OnnxModel, describe_onnx_model


def one_node_model(
    op: str,
    inputs: Mapping[str, Any],
    *,
    fed: Sequence[str],
    opset: int,
    domain: str = "",
    outputs: Sequence[str] = ("y",),
    output_type: int = onnx.TensorProto.FLOAT,
    **attributes: Any,
) -> OnnxModel:
    """A model of one node; inputs that are not fed are initializers, and None is an input that is left out."""
    names = ["" if array is None else name for name, array in inputs.items()]
    node = helper.make_node(op, names, list(outputs), domain=domain, **attributes)
    arrays = {name: np.asarray(array) for name, array in inputs.items() if array is not None}
    graph = helper.make_graph(
        [node],
        op,
        [
            helper.make_tensor_value_info(
                n, helper.np_dtype_to_tensor_dtype(arrays[n].dtype), [None, *arrays[n].shape[1:]]
            )
            for n in fed
        ],
        [helper.make_tensor_value_info(name, output_type, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items() if name not in fed],
    )
    opsets = [helper.make_opsetid(domain, opset)]
    return describe_onnx_model(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def evaluate(model: OnnxModel | FrozenGraph, inputs: Mapping[str, Any], tensors: Sequence[str]) -> list[Any]:
    """Fetches tensors by their ONNX names."""
    import tensorflow as tf

    frozen = lower(model) if isinstance(model, OnnxModel) else model
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph_def, name="")
    config = tf.compat.v1.ConfigProto()
    # Optimising a graph that runs once takes longer than running it.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        feed = {frozen.inputs[name]: value for name, value in inputs.items() if name in frozen.inputs}
        fetched: list[Any] = session.run([frozen.tensor(name) for name in tensors], feed)
        return fetched
