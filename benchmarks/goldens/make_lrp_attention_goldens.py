"""Writes the golden values of AttnLRP and CP-LRP: what LXT gives for an attention head and for transformer blocks.

Run in the environment that `requirements-lxt.txt` beside this file describes:

    python benchmarks/goldens/make_lrp_attention_goldens.py

LXT (Achtibat et al. 2024) is under the Clear BSD License, which grants no patent rights. It is called here; no code of
it is carried over. Everything is computed in double precision from weights that single precision holds exactly.

LXT adds its stabiliser to a denominator whatever that one's sign, R / (y + e); Sidelight, as Bach et al. 2015, moves
the denominator away from zero, R / (y + e sgn y). LXT's functions take any tensor for e, so it is handed e sgn y; in
the case "as_it_comes" it is the number e, in a network where no denominator is negative.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lrp_attention_networks import (
    HEAD_INPUT,
    HEAD_WIDTH,
    HEADS,
    NORM_EPSILON,
    ROOT_OF_2,
    ROOT_OF_HEAD,
    TOKENS,
    WIDTH,
    encoder_weights,
    gated_weights,
    head_weights,
    padded_head_weights,
    positive_head_weights,
    write_encoder,
    write_gated,
    write_head,
)
from lrp_networks import Array, draw
from lxt.explicit import functional as lxt
from lxt.explicit import rules

FOLDER = Path(__file__).parents[2] / "tests" / "golden" / "lrp"
SEED = 20260311
PACKAGES = ("lxt", "torch", "numpy", "onnx")
EPSILON = 1e-6
INSTANCES = 3
KEEP = np.array([[1.0, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
"""The tokens of each instance that are no padding."""
# No denominator may come nearer to zero than this, where the rules amplify any rounding.
_LEAST = 1 / 64
_TRIES = 20_000

Tensor = torch.Tensor


@dataclass
class Lxt:
    """LXT's rules with this script's stabiliser.

    Attributes:
        weights: of the network.
        signed: hands the stabiliser over with the denominator's sign.
        cp: holds attention weights constant.
        identity: RMSNorm by the identity rule; else by the epsilon rule with the root held constant.
        kept: the tensors whose relevance is asked for.
        least: the least magnitude of a denominator so far.
        negative: whether one was below 0.
    """

    weights: dict[str, Tensor]
    signed: bool = True
    cp: bool = False
    identity: bool = False
    kept: dict[str, Tensor] = field(default_factory=dict)
    least: float = float("inf")
    negative: bool = False

    def keep(self, name: str, tensor: Tensor) -> Tensor:
        tensor.retain_grad()
        self.kept[name] = tensor
        # LXT's layer normalisation differentiates inside its backward pass, and what reads it keeps that gradient too.
        return tensor.clone()

    def stabiliser(self, y: Tensor) -> Any:
        y = y.detach()
        self.least = min(self.least, y.abs().min().item())
        # What is hidden is minus infinity or so, and has no relevance.
        self.negative = self.negative or bool(((y < 0) & (y > -1e6)).any())
        return EPSILON * torch.where(y < 0, -1.0, 1.0).to(y.dtype) if self.signed else EPSILON

    def linear(self, x: Tensor, name: str) -> Tensor:
        w, b = self.weights[f"{name}_w"].T, self.weights.get(f"{name}_b")
        return lxt.linear_epsilon(x, w, b, self.stabiliser(torch.nn.functional.linear(x, w, b)))

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return lxt.matmul(a, b, epsilon=self.stabiliser(torch.matmul(a, b)))

    def attend(self, weights: Tensor, values: Tensor) -> Tensor:
        if not self.cp:
            return self.product(weights, values)
        constant = weights.detach()
        return rules.epsilon_lrp(torch.matmul, self.stabiliser(constant @ values), constant, values)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return lxt.add2(a, b, epsilon=self.stabiliser(a + b))

    def mean_of_tokens(self, x: Tensor) -> Tensor:
        # LXT stabilises the sum, Sidelight the mean.
        stabiliser = TOKENS * self.stabiliser(x.mean(1, keepdim=True))
        return lxt.mean(x, 1, True, stabiliser).squeeze(1)

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        w, b = self.weights[f"{name}_w"], self.weights[f"{name}_b"]
        y = torch.nn.functional.layer_norm(x, x.shape[-1:], w, b, NORM_EPSILON)
        # What `layer_norm` calls, which has no argument for the stabiliser.
        return lxt.layer_norm_grad_fn.apply(x, w, b, NORM_EPSILON, self.stabiliser(y))

    def rms_norm(self, x: Tensor, name: str) -> Tensor:
        w = self.weights[f"{name}_w"]

        def normalise(x: Tensor) -> Tensor:
            # The root is held constant for the epsilon rule; the identity rule does not look.
            return w * x / (x.square().mean(-1, keepdim=True) + NORM_EPSILON).sqrt().detach()

        stabiliser = self.stabiliser(normalise(x))
        if self.identity:
            # `rms_norm_identity` is this, but computes in single precision.
            return rules.identity(normalise, x)
        return rules.epsilon_lrp(normalise, stabiliser, x)


def head(rule: Lxt, x: Tensor) -> Tensor:
    """The network that `write_head` writes."""
    query, key, value = (rule.keep(name, rule.linear(x, name)) for name in ("query", "key", "value"))
    scores = rule.keep("scores", rule.product(query, key.transpose(-1, -2)))
    masked = rule.add(lxt.mul2(scores, rule.weights["scale"]), rule.weights["mask"])
    weights = rule.keep("weights", lxt.softmax(masked, -1))
    return rule.attend(weights, value)


def encoder(rule: Lxt, x: Tensor) -> Tensor:
    """The network that `write_encoder` writes."""
    norm = rule.keep("norm_1", rule.layer_norm(x, "norm_1"))

    def apart(name: str) -> Tensor:
        return rule.linear(norm, name).reshape(-1, TOKENS, HEADS, WIDTH // HEADS).transpose(1, 2)

    query, key, value = (apart(name) for name in ("query", "key", "value"))
    scores = lxt.mul2(rule.product(query, key.transpose(-1, -2)), 1 / ROOT_OF_HEAD)
    heads = rule.attend(lxt.softmax(scores, -1), value).transpose(1, 2).reshape(-1, TOKENS, WIDTH)
    sum_1 = rule.keep("sum_1", rule.add(x, rule.linear(rule.keep("joined", heads), "out")))
    up = rule.keep("up", rule.linear(rule.keep("norm_2", rule.layer_norm(sum_1, "norm_2")), "up"))
    return rule.add(sum_1, rule.linear(rules.identity(gelu, up), "down"))


def gelu(x: Tensor) -> Tensor:
    """With the root of 2 that the file has."""
    return 0.5 * x * (1 + torch.erf(x / ROOT_OF_2))


def gated(rule: Lxt, x: Tensor) -> Tensor:
    """The network that `write_gated` writes."""
    rms = rule.keep("rms", rule.rms_norm(x, "rms"))
    silu = rules.identity(torch.nn.functional.silu, rule.linear(rms, "gate"))
    product = rule.keep("product", lxt.mul2(silu, rule.linear(rms, "up")))
    return rule.mean_of_tokens(rule.keep("down", rule.linear(product, "down")))


@dataclass(frozen=True)
class Network:
    """A network of the goldens.

    Attributes:
        build: makes its output.
        draw: makes its weights.
        write: writes its file.
        x: the shape of an instance.
        y: that of its output.
        cases: by name, how LXT is used.
        positive: whether inputs are.
    """

    build: Callable[[Lxt, Tensor], Tensor]
    draw: Callable[[np.random.Generator], dict[str, Array]]
    write: Callable[[Path, dict[str, Array]], None]
    x: tuple[int, ...]
    y: tuple[int, ...]
    cases: dict[str, dict[str, bool]]
    positive: bool = False


SIGNED: dict[str, dict[str, bool]] = {"attn_lrp": {}, "cp_lrp": {"cp": True}}
NETWORKS = {
    "attention_head": Network(head, head_weights, write_head, (TOKENS, HEAD_INPUT), (TOKENS, HEAD_WIDTH), SIGNED),
    "attention_positive": Network(
        head,
        positive_head_weights,
        write_head,
        (TOKENS, HEAD_INPUT),
        (TOKENS, HEAD_WIDTH),
        {"as_it_comes": {"signed": False}, "cp_as_it_comes": {"signed": False, "cp": True}},
        positive=True,
    ),
    "attention_padded": Network(
        head, padded_head_weights, write_head, (TOKENS, HEAD_INPUT), (TOKENS, HEAD_WIDTH), {"attn_lrp": {}}
    ),
    "encoder": Network(encoder, encoder_weights, write_encoder, (TOKENS, WIDTH), (TOKENS, WIDTH), SIGNED),
    "gated": Network(
        gated, gated_weights, write_gated, (TOKENS, WIDTH), (WIDTH,), {"attn_lrp": {}, "identity": {"identity": True}}
    ),
}


def torch_weights(weights: dict[str, Array]) -> dict[str, Tensor]:
    made = {name: torch.tensor(value) for name, value in weights.items() if value.dtype.kind == "f"}
    if "hidden" in made:
        made["mask"] = made["hidden"] * (1 - torch.tensor(KEEP)[:, None, :])
    return made


def draw_network(random: np.random.Generator, network: Network) -> tuple[dict[str, Array], Array, float]:
    """Weights and inputs such that no denominator is near zero; and the least of them."""
    for _ in range(_TRIES):
        weights = network.draw(random)
        x = draw(random, (INSTANCES, *network.x), 16)
        x = np.abs(x) if network.positive else x
        rule = Lxt(torch_weights(weights))
        network.build(rule, torch.tensor(x, requires_grad=True))
        if rule.least >= _LEAST:
            assert not (network.positive and rule.negative)
            return weights, x, rule.least
    raise RuntimeError(f"no weights in {_TRIES} tries")


def propagate(network: Network, rule: Lxt, x: Array, relevance: Array) -> dict[str, Array]:
    """Relevance by place: of the input, and of what is kept; nothing of what gets none."""
    given = rule.keep("input", torch.tensor(x, requires_grad=True))
    network.build(rule, given).backward(torch.tensor(relevance))
    return {name: tensor.grad.numpy() for name, tensor in rule.kept.items() if tensor.grad is not None}


def difference(network: Network, weights: dict[str, Tensor], x: Array, relevance: Array) -> float:
    """How much relevance of the input changes if the stabiliser is the number e, of the instance's largest."""
    signed, plain = (propagate(network, Lxt(weights, signed=signed), x, relevance)["input"] for signed in (True, False))
    scale = np.abs(signed).max(axis=(1, 2), keepdims=True)
    return float((np.abs(signed - plain) / scale).max())


def main() -> None:
    torch.set_num_threads(1)
    random = np.random.default_rng(SEED)
    inputs: dict[str, Array] = {}
    found: dict[str, Array] = {}
    least, unsigned = {}, {}
    for name, network in NETWORKS.items():
        weights, x, least[name] = draw_network(random, network)
        network.write(FOLDER / f"{name}.onnx", weights)
        held = torch_weights(weights)
        relevance = draw(random, (INSTANCES, *network.y), 16)
        inputs |= {f"{name}/x": x.astype(np.float32), f"{name}/relevance": relevance.astype(np.float32)}
        if "hidden" in held:
            inputs[f"{name}/keep"] = KEEP.astype(np.float32)
        for case, arguments in network.cases.items():
            rule = Lxt(held, **arguments)
            for place, array in propagate(network, rule, x, relevance).items():
                found[f"{name}/{case}/{place}"] = array
        if network.build is gated:
            found[f"{name}/rms_values"] = rule.kept["rms"].detach().numpy()
        unsigned[name] = difference(network, held, x, relevance)
    np.savez_compressed(FOLDER / "lxt_attention.npz", **found, **{f"given/{key}": x for key, x in inputs.items()})
    provenance = {
        "made_by": "benchmarks/goldens/make_lrp_attention_goldens.py",
        "reference": "LXT 2.1 (Clear BSD License), lxt.explicit, called and not copied",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "seed": SEED,
        "precision": "float64",
        "stabilizer": EPSILON,
        "cases": {name: network.cases for name, network in NETWORKS.items()},
        "least_denominator": least,
        "change_by_a_stabilizer_without_sign": unsigned,
    }
    (FOLDER / "lxt.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
