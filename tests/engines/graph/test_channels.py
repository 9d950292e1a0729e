"""Which axis counts channels."""

from __future__ import annotations

from onnx import helper
from sidelight_engines.graph.channels import channel_axes
from sidelight_engines.graph.step import TensorType

FOUR = TensorType("float32", (None, 4, 8, 8))


def test_channels_stay_where_a_convolution_puts_them_until_they_are_moved() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Add", ["bias", "relu"], ["add"]),
        helper.make_node("MaxPool", ["add"], ["pool"]),
        helper.make_node("Transpose", ["pool"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Sigmoid", ["last"], ["sigmoid"]),
        helper.make_node("Transpose", ["pool"], ["reversed"]),
        helper.make_node("Reshape", ["sigmoid", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["dense"]),
    ]
    types = dict.fromkeys(("conv", "relu", "add", "pool", "last", "sigmoid", "reversed"), FOUR)

    found = channel_axes(nodes, types)

    assert {name: found[name] for name in ("conv", "relu", "add", "pool")} == dict.fromkeys(
        ("conv", "relu", "add", "pool"), 1
    )
    assert {name: found[name] for name in ("last", "sigmoid")} == {"last": 3, "sigmoid": 3}
    assert found["reversed"] == 2
    assert not {"first", "flat", "dense"} & found.keys()


def test_what_changes_the_number_of_axes_keeps_no_channels() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["conv"]), helper.make_node("ReduceMean", ["conv"], ["mean"])]

    assert "mean" not in channel_axes(nodes, {"conv": FOUR, "mean": TensorType("float32", (None, 4))})
