"""zennit and captum on the networks of the LRP benchmarks, in an environment of its own.

Answers each line of JSON with a line of JSON. ``{"folder", "network", "images", "rule", "arguments", "batch",
"repeat"}``: the sums of relevance of the class with the largest logit and the seconds of each run, or ``failure`` if
the library can not do it. The rule is one of zennit's, at every layer with weights, ``composite.`` and one of its
composites, or ``captum.Epsilon``. The network is an architecture of `reference_architectures` by name, or what the
folder holds under it. ``count`` takes no more than so many images, ``threads`` so many threads.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule
from reference_architectures import build
from zennit import composites, rules
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import LayerMapComposite
from zennit.layer import Sum
from zennit.rules import Norm, Pass
from zennit.types import Activation, AvgPool, BatchNorm, Linear


class Network(torch.nn.Module):
    """The network, channels first."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        relu = torch.nn.ReLU
        convolutions = [torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.Conv2d(32, 32, 3, padding=1)]
        dense = [torch.nn.Linear(1568, 512), torch.nn.Linear(512, 10)]
        for number, layer in enumerate(convolutions, start=1):
            layer.weight.data = torch.tensor(held[f"conv_{number}_w"].transpose(3, 2, 0, 1).copy())
            layer.bias.data = torch.tensor(held[f"conv_{number}_b"])
        first = held["dense_1_w"].reshape(7, 7, 32, 512).transpose(2, 0, 1, 3).reshape(1568, 512)
        for number, (layer, weight) in enumerate(zip(dense, (first, held["dense_2_w"]), strict=True), start=1):
            layer.weight.data = torch.tensor(weight.T.copy())
            layer.bias.data = torch.tensor(held[f"dense_{number}_b"])
        pool = torch.nn.MaxPool2d
        self.image = torch.nn.Sequential(convolutions[0], relu(), pool(2), convolutions[1], relu(), pool(2))
        self.dense = torch.nn.Sequential(dense[0], relu(), dense[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.image(x).flatten(1))


def attribute(model: torch.nn.Module, case: dict[str, Any], x: torch.Tensor) -> torch.Tensor:
    if case["rule"] == "captum.Epsilon":
        for module in model.modules():
            if not list(module.children()) and not isinstance(module, torch.nn.ReLU):
                module.rule = EpsilonRule(**case["arguments"])
        with torch.no_grad():
            target = model(x).argmax(dim=1)
        return LRP(model).attribute(x, target=target).detach()
    canonizers = [SequentialMergeBatchNorm()]
    kind, _, name = case["rule"].rpartition(".")
    if kind == "composite":
        composite = getattr(composites, name)(canonizers=canonizers, **case["arguments"])
    else:
        rule = getattr(rules, name)(**case["arguments"])
        layers = [(Activation, Pass()), (Sum, Norm()), (AvgPool, Norm()), (BatchNorm, Pass()), (Linear, rule)]
        composite = LayerMapComposite(layers, canonizers=canonizers)

    def largest(y: torch.Tensor) -> torch.Tensor:
        return y.detach() * torch.eye(10)[y.argmax(dim=1)]

    with Gradient(model=model, composite=composite) as attributor:
        return attributor(x, largest)[1].detach()


def network(case: dict[str, Any]) -> torch.nn.Module:
    if case["network"] in ("VGG16", "ResNet50"):
        return build(case["network"], case["pixels"], "captum" if case["rule"].startswith("captum") else "zennit")
    return Network(np.load(Path(case["folder"]) / f"{case['network']}.npz")).eval()


def run(model: torch.nn.Module, case: dict[str, Any]) -> dict[str, Any]:
    images = torch.tensor(np.load(case["images"])[: case.get("count")].transpose(0, 3, 1, 2).copy())
    seconds, sums = [], []
    for _ in range(case["repeat"]):
        started = time.perf_counter()
        parts = [
            attribute(model, case, images[first : first + case["batch"]])
            for first in range(0, len(images), case["batch"])
        ]
        seconds.append(time.perf_counter() - started)
        sums = torch.cat(parts).sum(dim=(1, 2, 3)).double().tolist()
    return {"sums": sums, "seconds": seconds}


def main() -> None:
    models: dict[str, torch.nn.Module] = {}
    threads = torch.get_num_threads()
    for line in sys.stdin:
        case = json.loads(line)
        key = f"{case['network']} {case['rule'].startswith('captum')}"
        torch.set_num_threads(case.get("threads", threads))
        try:
            if key not in models:
                models[key] = network(case)
            answer = run(models[key], case)
        except Exception as error:
            answer = {"failure": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
