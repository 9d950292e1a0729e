"""VGG16 and ResNet50 for torch, in the environment of zennit and captum; written from the published architectures.

As Keras has them: biases at every convolution, ResNet50's stride at the first convolution of a block (He et al. 2015),
no dropout, ten classes. Weights are drawn: how long an explanation takes does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr._utils.custom_modules import Addition_Module
from torch import nn
from zennit.layer import Sum

Join = Callable[[], nn.Module]
"""Makes a module that adds two tensors."""

_CLASSES = 10
_EPSILON = 1.001e-5


class StackedSum(nn.Module):
    """Adds two tensors by zennit's module of sums, which has a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.sum(torch.stack([a, b], dim=-1))


class VGG16(nn.Module):
    """Simonyan and Zisserman 2014, configuration D."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.image = nn.Sequential(*layers)
        flat = channels * (pixels // 32) ** 2
        dense = [nn.Linear(flat, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, _CLASSES)]
        self.dense = nn.Sequential(*dense)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.image(x).flatten(1))


def _normalised(before: int, after: int, size: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, size, stride=stride, padding=size // 2)
    return [convolution, nn.BatchNorm2d(after, eps=_EPSILON)]


class Bottleneck(nn.Module):
    """Three convolutions and what they are added to."""

    def __init__(self, before: int, width: int, stride: int, join: Join) -> None:
        super().__init__()
        after = 4 * width
        self.shortcut = nn.Sequential(*_normalised(before, after, 1, stride)) if before != after else None
        self.residual = nn.Sequential(
            *_normalised(before, width, 1, stride),
            nn.ReLU(),
            *_normalised(width, width, 3),
            nn.ReLU(),
            *_normalised(width, after, 1),
        )
        self.join = join()
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return self.relu(self.join(shortcut, self.residual(x)))


class ResNet50(nn.Module):
    """He et al. 2015, with 50 layers."""

    def __init__(self, join: Join) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_normalised(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        channels = 64
        for width, depth, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for number in range(depth):
                layers.append(Bottleneck(channels, width, 1 if number else first_stride, join))
                channels = 4 * width
        self.image = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.dense = nn.Linear(channels, _CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.image(x).flatten(1))


def build(name: str, pixels: int, library: str) -> nn.Module:
    """Builds a network with drawn weights.

    Args:
        name: VGG16 or ResNet50.
        pixels: width and height of an image.
        library: zennit or captum; each has a module of its own for sums.
    """
    torch.manual_seed(17)
    network = VGG16(pixels) if name == "VGG16" else ResNet50(Addition_Module if library == "captum" else StackedSum)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()
