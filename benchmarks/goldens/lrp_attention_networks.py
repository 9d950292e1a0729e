"""The networks of the AttnLRP goldens: their weights, and their ONNX files, spelled as exporters spell them.

Weights, inputs and constants are numbers that single precision holds exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lrp_networks import Array, Network, draw

TOKENS = 4
HEAD_INPUT, HEAD_WIDTH = 5, 4
WIDTH, HEADS, HIDDEN = 6, 2, 8
NORM_EPSILON = 2.0**-10
"""Added to variances and mean squares."""
ROOT_OF_2 = float(np.float32(math.sqrt(2)))
ROOT_OF_HEAD = float(np.float32(math.sqrt(WIDTH // HEADS)))
_DOWN = np.tril(np.ones((TOKENS, TOKENS), bool))


def head_weights(random: np.random.Generator) -> dict[str, Array]:
    """One head; its mask hides later tokens, by minus infinity or by a large number, and prefers near ones."""
    weights = {"scale": np.array(0.5), "mask": np.where(_DOWN, draw(random, (TOKENS, TOKENS), 16), -np.inf)}
    weights["mask"][0, 1:] = -1e9
    for name in ("query", "key", "value"):
        weights[f"{name}_w"] = draw(random, (HEAD_INPUT, HEAD_WIDTH))
        weights[f"{name}_b"] = draw(random, (HEAD_WIDTH,)) / 2
    return weights


def positive_head_weights(random: np.random.Generator) -> dict[str, Array]:
    """The same head without a negative number in it but what hides later tokens."""
    weights = {name: np.abs(value) + 1 / 64 for name, value in head_weights(random).items()}
    weights["mask"] = np.where(_DOWN, np.abs(draw(random, (TOKENS, TOKENS), 16)), -np.inf)
    return weights


def padded_head_weights(random: np.random.Generator) -> dict[str, Array]:
    """The same head with a mask that comes with the instance."""
    weights = {**head_weights(random), "one": np.array(1.0), "hidden": np.array(-1e9), "axis": np.array([1])}
    del weights["mask"]
    return weights


def encoder_weights(random: np.random.Generator) -> dict[str, Array]:
    """A block of a transformer's encoder."""
    weights: dict[str, Array] = {
        "heads_apart": np.array([0, TOKENS, HEADS, WIDTH // HEADS]),
        "heads_together": np.array([0, TOKENS, WIDTH]),
        "root_of_head": np.array(ROOT_OF_HEAD),
        "root_of_2": np.array(ROOT_OF_2),
        "one": np.array(1.0),
        "half": np.array(0.5),
        "two": np.array(2.0),
        "norm_epsilon": np.array(NORM_EPSILON),
    }
    for name in ("norm_1", "norm_2"):
        weights[f"{name}_w"] = draw(random, (WIDTH,)) / 4 + 1
        weights[f"{name}_b"] = draw(random, (WIDTH,)) / 2
    shapes = dict.fromkeys(("query", "key", "value", "out"), (WIDTH, WIDTH))
    for name, shape in {**shapes, "up": (WIDTH, HIDDEN), "down": (HIDDEN, WIDTH)}.items():
        weights[f"{name}_w"] = draw(random, shape)
        weights[f"{name}_b"] = draw(random, shape[1:]) / 2
    return weights


def gated_weights(random: np.random.Generator) -> dict[str, Array]:
    """RMSNorm and a gated MLP without biases, and a mean."""
    return {
        "rms_w": draw(random, (WIDTH,)) / 4 + 1,
        "two": np.array(2.0),
        "norm_epsilon": np.array(NORM_EPSILON),
        "gate_w": draw(random, (WIDTH, HIDDEN)),
        "up_w": draw(random, (WIDTH, HIDDEN)),
        "down_w": draw(random, (HIDDEN, WIDTH)),
    }


def write_head(path: Path, weights: Mapping[str, Array]) -> None:
    """Writes one attention head: softmax((q k' / 2) + mask) v.

    Without a mask among the weights, each instance brings what it keeps: 1 for a token, 0 for padding.
    """
    network = Network()
    network.input("x", ("n", TOKENS, HEAD_INPUT))
    mask = "mask"
    if mask not in weights:
        network.input("keep", ("n", TOKENS))
        keep = network.node("Unsqueeze", ["keep", "axis"], "of_keys")
        mask = network.node("Mul", [network.node("Sub", ["one", keep], "padding"), "hidden"], mask)
    query, key, value = (_affine(network, "x", name) for name in ("query", "key", "value"))
    scores = network.node("MatMul", [query, network.node("Transpose", [key], "key_t", perm=[0, 2, 1])], "scores")
    scores = network.node("Add", [network.node("Mul", [scores, "scale"], "scaled"), mask], "masked")
    network.node("MatMul", [network.node("Softmax", [scores], "weights", axis=-1), value], "head")
    network.write(path, weights, "head", ("n", TOKENS, HEAD_WIDTH))


def write_encoder(path: Path, weights: Mapping[str, Array]) -> None:
    """Writes norm_1, attention of two heads, residual sum, norm_2, MLP with GELU, residual sum.

    norm_1 is one operation; norm_2 and GELU are many.
    """
    network = Network()
    network.input("x", ("n", TOKENS, WIDTH))
    norm = network.node("LayerNormalization", ["x", "norm_1_w", "norm_1_b"], "norm_1", axis=-1, epsilon=NORM_EPSILON)
    apart = {}
    for name in ("query", "key", "value"):
        split = network.node("Reshape", [_affine(network, norm, name), "heads_apart"], f"{name}_apart")
        perm = [0, 2, 3, 1] if name == "key" else [0, 2, 1, 3]
        apart[name] = network.node("Transpose", [split], f"{name}_heads", perm=perm)
    scores = network.node("MatMul", [apart["query"], apart["key"]], "scores")
    scores = network.node("Div", [scores, "root_of_head"], "scaled")
    heads = network.node("MatMul", [network.node("Softmax", [scores], "weights", axis=-1), apart["value"]], "heads")
    heads = network.node("Transpose", [heads], "heads_back", perm=[0, 2, 1, 3])
    heads = network.node("Reshape", [heads, "heads_together"], "joined")
    sum_1 = network.node("Add", ["x", _affine(network, heads, "out")], "sum_1")
    up = _affine(network, _layer_norm(network, sum_1, "norm_2"), "up")
    erf = network.node("Erf", [network.node("Div", [up, "root_of_2"], "gelu_1")], "gelu_2")
    erf = network.node("Mul", [up, network.node("Add", [erf, "one"], "gelu_3")], "gelu_4")
    down = _affine(network, network.node("Mul", [erf, "half"], "gelu"), "down")
    network.node("Add", [sum_1, down], "sum_2")
    network.write(path, weights, "sum_2", ("n", TOKENS, WIDTH))


def write_gated(path: Path, weights: Mapping[str, Array]) -> None:
    """Writes the mean over tokens of down(silu(gate n) * up n) with n = rms(x)."""
    network = Network()
    network.input("x", ("n", TOKENS, WIDTH))
    square = network.node("Pow", ["x", "two"], "square")
    mean = network.node("ReduceMean", [square], "mean_square", axes=[-1], keepdims=1)
    root = network.node("Sqrt", [network.node("Add", [mean, "norm_epsilon"], "above_0")], "root")
    rms = network.node("Mul", [network.node("Div", ["x", root], "over_root"), "rms_w"], "rms")
    gate = network.node("MatMul", [rms, "gate_w"], "gate")
    silu = network.node("Mul", [gate, network.node("Sigmoid", [gate], "sigmoid")], "silu")
    product = network.node("Mul", [silu, network.node("MatMul", [rms, "up_w"], "up")], "product")
    network.node("ReduceMean", [network.node("MatMul", [product, "down_w"], "down")], "mean", axes=[1], keepdims=0)
    network.write(path, weights, "mean", ("n", WIDTH))


def _affine(network: Network, x: str, name: str) -> str:
    """X W + b of tokens, as exporters write it."""
    return network.node("Add", [network.node("MatMul", [x, f"{name}_w"], f"{name}_product"), f"{name}_b"], name)


def _layer_norm(network: Network, x: str, name: str) -> str:
    """Layer normalisation as exporters write it before opset 17."""

    def mean(of: str, what: str) -> str:
        return network.node("ReduceMean", [of], f"{name}_{what}", axes=[-1], keepdims=1)

    centred = network.node("Sub", [x, mean(x, "mean")], f"{name}_centred")
    variance = mean(network.node("Pow", [centred, "two"], f"{name}_square"), "variance")
    root = network.node("Sqrt", [network.node("Add", [variance, "norm_epsilon"], f"{name}_above_0")], f"{name}_root")
    scaled = network.node("Mul", [network.node("Div", [centred, root], f"{name}_plain"), f"{name}_w"], f"{name}_scaled")
    return network.node("Add", [scaled, f"{name}_b"], name)
