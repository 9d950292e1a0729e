"""Writes the golden values of layer-wise relevance propagation: what zennit and captum give for small networks.

Run in the pinned environment of `requirements-lrp.txt` beside this file:

    python benchmarks/goldens/make_lrp_goldens.py

Everything is computed in double precision from weights that single precision holds exactly. iNNvestigate needs an
environment of its own: `make_lrp_innvestigate_goldens.py`, which reads what this script writes.
"""

from __future__ import annotations

import json
import platform
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LRP, InputXGradient, IntegratedGradients, Saliency
from captum.attr._utils.lrp_rules import EpsilonRule
from lrp_networks import (
    BN_EPSILON,
    CNN_INPUT,
    CNN_LINEAR,
    LAYERS,
    PLAIN_INPUT,
    PLAIN_LINEAR,
    Array,
    Linear,
    alone,
    draw,
    draw_weights,
    write_cnn,
    write_empty,
    write_layers,
    write_plain,
)
from zennit import composites, rules
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.layer import Sum

FOLDER = Path(__file__).parents[2] / "tests" / "golden" / "lrp"
SEED = 20240811
PACKAGES = ("zennit", "captum", "torch", "numpy", "onnx")
LOW, HIGH = -1.0, 1.0
# No neuron of the layers may come nearer to zero than this, where epsilon-like rules amplify any rounding.
_LEAST_OUTPUT = 1 / 128
_TRIES = 2_000

RULES: dict[str, dict[str, Any]] = {
    "z": {"rule": "Epsilon", "arguments": {"epsilon": 0.0}},
    "epsilon": {"rule": "Epsilon", "arguments": {"epsilon": 1e-6}},
    "epsilon_0.1": {"rule": "Epsilon", "arguments": {"epsilon": 0.1}},
    "epsilon_ignore_bias": {"rule": "Epsilon", "arguments": {"epsilon": 1e-6}, "ignore_bias": True},
    "gamma": {"rule": "Gamma", "arguments": {"gamma": 0.25}},
    "gamma_2": {"rule": "Gamma", "arguments": {"gamma": 2.0}},
    "gamma_ignore_bias": {"rule": "Gamma", "arguments": {"gamma": 0.25}, "ignore_bias": True},
    "alpha_2_beta_1": {"rule": "AlphaBeta", "arguments": {"alpha": 2.0, "beta": 1.0}},
    "alpha_1.5_beta_0.5": {"rule": "AlphaBeta", "arguments": {"alpha": 1.5, "beta": 0.5}},
    "alpha_2_beta_1_ignore_bias": {
        "rule": "AlphaBeta",
        "arguments": {"alpha": 2.0, "beta": 1.0},
        "ignore_bias": True,
    },
    "z_plus": {"rule": "ZPlus", "arguments": {}},
    "z_plus_ignore_bias": {"rule": "ZPlus", "arguments": {}, "ignore_bias": True},
    "w_square": {"rule": "WSquare", "arguments": {}},
    "w_square_ignore_bias": {"rule": "WSquare", "arguments": {}, "ignore_bias": True},
    "flat": {"rule": "Flat", "arguments": {}},
    "z_box": {"rule": "ZBox", "arguments": {"low": LOW, "high": HIGH}},
}
COMPOSITES: dict[str, dict[str, Any]] = {
    "EPSILON_PLUS": {"composite": "EpsilonPlus"},
    "EPSILON_PLUS_FLAT": {"composite": "EpsilonPlusFlat"},
    "EPSILON_ALPHA2_BETA1": {"composite": "EpsilonAlpha2Beta1"},
    "EPSILON_ALPHA2_BETA1_FLAT": {"composite": "EpsilonAlpha2Beta1Flat"},
    "EPSILON_GAMMA_BOX": {"composite": "EpsilonGammaBox", "arguments": {"low": LOW, "high": HIGH}},
    "EXCITATION_BACKPROP": {"composite": "ExcitationBackprop"},
    "GUIDED_BACKPROP": {"composite": "GuidedBackprop"},
    "DECONVNET": {"composite": "DeconvNet"},
}
INNER = ("relu_1", "max", "relu_5")
"""Layers of the CNN at which relevance is kept too."""


def module_of(layer: Linear, weights: dict[str, Array], *, bias: bool) -> torch.nn.Module:
    """The layer with its weights, in double precision."""
    axes = len(layer.x) - 1
    made: Any
    if layer.kind == "dense":
        made = torch.nn.Linear(*layer.weight, bias=bias)
    else:
        kind = getattr(torch.nn, f"Conv{'Transpose' if layer.kind == 'conv_transpose' else ''}{axes}d")
        made = kind(
            layer.x[0],
            layer.outputs,
            layer.weight[2:],
            stride=layer.stride,
            padding=layer.pad,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=bias,
        )
    made = made.double()
    held = weights[f"{layer.name}_w"]
    made.weight.data = torch.tensor(held.T.copy() if layer.kind == "dense" else held)
    if bias:
        made.bias.data = torch.tensor(weights[f"{layer.name}_b"])
    return made.eval()


def signed_inputs(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Two instances: one without negative numbers but with zeros, as behind a ReLU, and one with both signs."""
    x = draw(random, (2, *shape), 16)
    x[0] = np.maximum(x[0] + 0.25, 0)
    return x


def draw_layers(random: np.random.Generator) -> tuple[dict[str, Array], dict[str, Array]]:
    """Weights of the layers and inputs, such that no neuron is near zero, with or without its bias."""
    weights: dict[str, Array] = {}
    inputs: dict[str, Array] = {}
    for layer in LAYERS:
        for _ in range(_TRIES):
            drawn = {
                f"{layer.name}_w": draw(random, layer.weight),
                f"{layer.name}_b": draw(random, (layer.outputs,)),
            }
            x = signed_inputs(random, layer.x)
            plain, biased = (module_of(layer, drawn, bias=bias)(torch.tensor(x)) for bias in (False, True))
            if min(plain.abs().min().item(), biased.abs().min().item()) >= _LEAST_OUTPUT:
                break
        else:
            raise RuntimeError(f"no weights for {layer.name} in {_TRIES} tries")
        weights |= drawn
        for bias in (False, True):
            inputs[alone(layer.name, bias=bias)] = x
    return weights, inputs


def rule_of(case: dict[str, Any]) -> Any:
    return getattr(rules, case["rule"])(**case["arguments"])


def propagate(module: torch.nn.Module, rule: Any, x: Array, relevance: Array) -> Array:
    """What one layer hands to its input."""
    given = torch.tensor(x, requires_grad=True)
    handle = rule.register(module)
    try:
        y = module(given)
        (found,) = torch.autograd.grad(y, given, torch.tensor(relevance).reshape(y.shape))
    finally:
        handle.remove()
    return np.asarray(found)


def without_bias(case: dict[str, Any]) -> bool:
    return bool(case.get("ignore_bias"))


def layer_goldens(
    random: np.random.Generator, weights: dict[str, Array], inputs: dict[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """The relevance that starts, (instances, all outputs); and by ``<rule>/<input>`` what arrives."""
    outputs = []
    for layer in LAYERS:
        for bias in (False, True):
            x = inputs[alone(layer.name, bias=bias)]
            outputs.append(module_of(layer, weights, bias=bias)(torch.tensor(x)).reshape(len(x), -1).shape[1])
    relevance = draw(random, (2, sum(outputs)), 16)
    found: dict[str, Array] = {}
    for name, case in RULES.items():
        start = 0
        for i, layer in enumerate(LAYERS):
            for j, bias in enumerate((False, True)):
                count = outputs[2 * i + j]
                given = alone(layer.name, bias=bias)
                # zennit's gamma takes signs with the bias even where it leaves it out of everything else; a layer
                # without one is what leaving it out means.
                module = module_of(layer, weights, bias=bias and not without_bias(case))
                part = relevance[:, start : start + count]
                found[f"{name}/{given}"] = propagate(module, rule_of(case), inputs[given], part)
                start += count
    return relevance, found


def empty_case() -> tuple[dict[str, Array], Array, Array]:
    """A dense layer with neurons of every degenerate kind: weights, inputs, relevance."""
    columns = {
        "both signs": ([1.0, -0.5, 0.25], 0.0),
        "both signs, positive bias": ([1.0, -0.5, 0.25], 0.5),
        "both signs, negative bias": ([1.0, -0.5, 0.25], -0.5),
        "only positive": ([1.0, 0.5, 0.25], 0.0),
        "only positive, positive bias": ([1.0, 0.5, 0.25], 0.5),
        "only positive, negative bias": ([1.0, 0.5, 0.25], -0.5),
        "only negative": ([-1.0, -0.5, -0.25], 0.0),
        "only negative, positive bias": ([-1.0, -0.5, -0.25], 0.5),
        "only negative, negative bias": ([-1.0, -0.5, -0.25], -0.5),
        "cancels": ([1.0, -1.0, 0.0], 0.0),
        "cancels with its bias": ([1.0, 0.5, 0.5], -2.0),
        "no weights": ([0.0, 0.0, 0.0], 0.0),
        "no weights, positive bias": ([0.0, 0.0, 0.0], 0.5),
        "no weights, negative bias": ([0.0, 0.0, 0.0], -0.5),
    }
    weights = {
        "empty_w": np.array([column for column, _ in columns.values()]).T.copy(),
        "empty_b": np.array([bias for _, bias in columns.values()]),
    }
    # Some ones, both signs, and nothing at all.
    x = np.array([[1.0, 1.0, 1.0], [1.0, -2.0, 0.5], [-1.0, -1.0, -2.0], [0.0, 0.0, 0.0]])
    relevance = np.tile(np.array([1.0, -0.5]), (len(x), len(columns) // 2))
    return weights, x, relevance


def empty_goldens(weights: dict[str, Array], x: Array, relevance: Array) -> dict[str, Array]:
    """By rule what arrives, neuron by neuron: (instances, neurons, inputs). LRP-0 would divide by zero."""
    found: dict[str, Array] = {}
    inner, outer = weights["empty_w"].shape
    layer = Linear("empty", "dense", (inner,), (inner, outer))
    for name, case in RULES.items():
        if name == "z":
            continue
        module = module_of(layer, weights, bias=not without_bias(case))
        each = [propagate(module, rule_of(case), x, relevance * np.eye(outer)[i]) for i in range(outer)]
        found[name] = np.stack(each, axis=1)
    return found


class Block(torch.nn.Module):
    """The CNN's residual block."""

    def __init__(self, layers: dict[str, torch.nn.Module]) -> None:
        super().__init__()
        self.conv_2, self.bn_2, self.relu_2 = layers["conv_2"], layers["bn_2"], torch.nn.ReLU()
        self.conv_3, self.bn_3, self.add = layers["conv_3"], layers["bn_3"], Sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.bn_3(self.conv_3(self.relu_2(self.bn_2(self.conv_2(x)))))
        return self.add(torch.stack([inner, x], dim=-1))


def cnn(weights: dict[str, Array]) -> torch.nn.Sequential:
    """The network that `write_cnn` writes."""
    layers: dict[str, torch.nn.Module] = {layer.name: module_of(layer, weights, bias=True) for layer in CNN_LINEAR}
    for i in (1, 2, 3):
        # zennit leaves the epsilon of a merged normalisation behind, which scales its output once more; here it is part
        # of the variance.
        bn = torch.nn.BatchNorm2d(4, eps=0.0).double().eval()
        bn.weight.data = torch.tensor(weights[f"bn_{i}_scale"])
        bn.bias.data = torch.tensor(weights[f"bn_{i}_shift"])
        bn.running_mean = torch.tensor(weights[f"bn_{i}_mean"])
        bn.running_var = torch.tensor(weights[f"bn_{i}_variance"] + BN_EPSILON)
        layers[f"bn_{i}"] = bn
    relu = torch.nn.ReLU
    return torch.nn.Sequential(
        OrderedDict(
            conv_1=layers["conv_1"],
            bn_1=layers["bn_1"],
            relu_1=relu(),
            block=Block(layers),
            relu_3=relu(),
            max=torch.nn.MaxPool2d(2),
            conv_4=layers["conv_4"],
            relu_4=relu(),
            average=torch.nn.AvgPool2d(2),
            flat=torch.nn.Flatten(),
            dense_1=layers["dense_1"],
            relu_5=relu(),
            dense_2=layers["dense_2"],
        )
    ).eval()


class Plain(torch.nn.Module):
    """The network that `write_plain` writes. captum has no rule for a module that flattens."""

    def __init__(self, weights: dict[str, Array]) -> None:
        super().__init__()
        layers = [module_of(layer, weights, bias=True) for layer in PLAIN_LINEAR]
        relu = torch.nn.ReLU
        self.image = torch.nn.Sequential(
            layers[0], relu(), torch.nn.MaxPool2d(2), layers[1], relu(), torch.nn.AvgPool2d(2)
        )
        self.dense = torch.nn.Sequential(layers[2], relu(), layers[3])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.image(x).flatten(1))


def plain(weights: dict[str, Array]) -> Plain:
    made = Plain(weights).eval()
    assert isinstance(made, Plain)
    return made


def cnn_weights(random: np.random.Generator) -> dict[str, Array]:
    weights = draw_weights(random, CNN_LINEAR)
    for i in (1, 2, 3):
        weights[f"bn_{i}_scale"] = draw(random, (4,)) / 4 + 1
        weights[f"bn_{i}_shift"] = draw(random, (4,)) / 4
        weights[f"bn_{i}_mean"] = draw(random, (4,)) / 4
        weights[f"bn_{i}_variance"] = 4.0 ** random.integers(-1, 2, 4) - BN_EPSILON
    return weights


def cnn_goldens(weights: dict[str, Array], x: Array) -> dict[str, Array]:
    """By ``<preset>/<tensor>`` the relevance of each instance's largest logit, and ``<preset>/class_1/input`` that of
    class 1 from 1.
    """
    found: dict[str, Array] = {}
    for name, case in COMPOSITES.items():
        composite = getattr(composites, case["composite"])(
            **case.get("arguments", {}), canonizers=[SequentialMergeBatchNorm()]
        )
        model = cnn(weights)
        largest = model(torch.tensor(x)).argmax(dim=1)

        def logit(y: torch.Tensor, largest: torch.Tensor = largest) -> torch.Tensor:
            return y.detach() * torch.eye(5, dtype=y.dtype)[largest]

        def one(y: torch.Tensor) -> torch.Tensor:
            return torch.eye(5, dtype=y.dtype)[torch.ones(len(y), dtype=torch.int64)]

        # Gradient methods start from 1 whatever the logit.
        first = one if name in ("GUIDED_BACKPROP", "DECONVNET") else logit
        kept: dict[str, torch.Tensor] = {}
        handles = []
        with composite.context(model) as changed:
            for layer in INNER:

                def keep(module: Any, given: Any, output: torch.Tensor, layer: str = layer, kept: Any = kept) -> None:
                    output.retain_grad()
                    kept[layer] = output

                handles.append(changed.get_submodule(layer).register_forward_hook(keep))
            given = torch.tensor(x, requires_grad=True)
            y = changed(given)
            y.backward(first(y))
            found[f"{name}/input"] = np.asarray(given.grad)
            for layer, tensor in kept.items():
                found[f"{name}/{layer}"] = np.asarray(tensor.grad)
        for handle in handles:
            handle.remove()
        with Gradient(model=cnn(weights), composite=composite) as attributor:
            _, again = attributor(torch.tensor(x), one)
        found[f"{name}/class_1/input"] = np.asarray(again)
    return found


def captum_goldens(weights: dict[str, Array], x: Array) -> dict[str, Array]:
    """Relevance and gradients of class 1 of the plain network."""
    # captum's epsilon defaults to 1e-9; said so that it stays.
    found: dict[str, Array] = {}
    model = plain(weights)
    for module in model.modules():
        if not list(module.children()) and not isinstance(module, torch.nn.ReLU):
            module.rule = EpsilonRule(epsilon=1e-9)
    found["epsilon_1e-09"] = np.asarray(LRP(model).attribute(torch.tensor(x), target=1).detach())
    given = torch.tensor(x, requires_grad=True)
    found["gradient"] = np.asarray(Saliency(plain(weights)).attribute(given, target=1, abs=False).detach())
    along = IntegratedGradients(plain(weights))
    parts = along.attribute(torch.tensor(x), target=1, n_steps=64, method="riemann_middle")
    found["integrated_gradients_64"] = np.asarray(parts.detach())
    found["input_x_gradient"] = np.asarray(InputXGradient(plain(weights)).attribute(given, target=1).detach())
    return found


def main() -> None:
    random = np.random.default_rng(SEED)
    FOLDER.mkdir(parents=True, exist_ok=True)
    layer_weights, inputs = draw_layers(random)
    write_layers(FOLDER / "layers.onnx", layer_weights)
    relevance, layers = layer_goldens(random, layer_weights, inputs)
    empty_weights, empty_x, empty_relevance = empty_case()
    write_empty(FOLDER / "empty.onnx", empty_weights)
    weights = cnn_weights(random)
    write_cnn(FOLDER / "cnn.onnx", weights)
    cnn_x = draw(random, (3, *CNN_INPUT), 16)
    plain_weights = draw_weights(random, PLAIN_LINEAR)
    write_plain(FOLDER / "plain.onnx", plain_weights)
    plain_x = draw(random, (2, *PLAIN_INPUT), 16)

    unbiased = {name: value * (0 if name.endswith("_b") else 1) for name, value in plain_weights.items()}
    write_plain(FOLDER / "plain_unbiased.onnx", unbiased)

    np.savez_compressed(
        FOLDER / "inputs.npz",
        **{f"layers/{name}": x.astype(np.float32) for name, x in inputs.items()},
        **{"layers/relevance": relevance.astype(np.float32)},
        **{"empty/x": empty_x.astype(np.float32), "empty/relevance": empty_relevance.astype(np.float32)},
        **{"cnn/x": cnn_x.astype(np.float32), "plain/x": plain_x.astype(np.float32)},
    )
    np.savez_compressed(FOLDER / "zennit_layers.npz", **layers)
    np.savez_compressed(FOLDER / "zennit_empty.npz", **empty_goldens(empty_weights, empty_x, empty_relevance))
    np.savez_compressed(FOLDER / "zennit_cnn.npz", **cnn_goldens(weights, cnn_x))
    np.savez_compressed(FOLDER / "captum_plain.npz", **captum_goldens(plain_weights, plain_x))
    provenance = {
        "made_by": "benchmarks/goldens/make_lrp_goldens.py",
        "reference": "zennit 0.5.1 (LGPL-3.0-or-later) and captum 0.8.0 (BSD-3-Clause), called and not copied",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "seed": SEED,
        "precision": "float64",
        "stabilizer": 1e-6,
        "rules": RULES,
        "composites": COMPOSITES,
        "inner_layers": INNER,
    }
    (FOLDER / "cases.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
