"""Relevance by the formulas themselves, one contribution after the other, in float64.

An operation is a matrix W (inputs, outputs) with a mask of the connections that exist, which for a convolution are
written out position by position. Everything here is loops over branches (L; q_ij; q_0j) as the rules are defined; no
identity that the engine uses to save products is used.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Books:
    """What did not reach the inputs, summed over the outputs."""

    bias: float = 0.0
    stabiliser: float = 0.0
    empty: float = 0.0
    sink: float = 0.0


@dataclass
class Layer:
    """y = x W + b.

    Attributes:
        weights: (inputs, outputs).
        bias: (outputs,).
        connected: (inputs, outputs) bool, for flat.
    """

    weights: np.ndarray
    bias: np.ndarray
    connected: np.ndarray = field(default=None)  # type: ignore[assignment]

    def __post_init__(self):
        if self.connected is None:
            self.connected = np.ones_like(self.weights, bool)


def sign(value):
    return -1.0 if value < 0 else 1.0


def positive(value):
    return max(value, 0.0)


def negative(value):
    return min(value, 0.0)


def branches(rule, parameters, layer, x, i_to_z, j):
    """(L, numerators, bias numerator, sign-pure) of neuron j."""
    z = i_to_z[:, j]
    b = 0.0 if parameters.get("ignore_bias") else layer.bias[j]
    w = layer.weights[:, j]
    if rule == "epsilon":
        return [(1.0, z, b, False)]
    if rule == "gamma":
        g, y = parameters["gamma"], z.sum() + b
        part = positive if y > 0 else negative
        return [(1.0, np.array([v + g * part(v) for v in z]), b + g * part(b), False)]
    if rule == "alpha_beta":
        alpha, beta = parameters["alpha"], parameters["beta"]
        up = (alpha, np.array([positive(v) for v in z]), positive(b), True)
        down = (-beta, np.array([negative(v) for v in z]), negative(b), True)
        return [branch for branch in (up, down) if branch[0] != 0]
    if rule == "alpha_beta_x":
        quadrants = []
        for name, (sx, sw) in (
            ("alpha_positive_input", (1, 1)),
            ("alpha_negative_input", (-1, -1)),
            ("beta_positive_input", (1, -1)),
            ("beta_negative_input", (-1, 1)),
        ):
            weight = parameters[name] * (1 if sx == sw else -1)
            q = np.array([v * u if v * sx > 0 and u * sw > 0 else 0.0 for v, u in zip(x, w, strict=True)])
            q0 = b if sx == 1 and b * sw > 0 else 0.0
            if weight:
                quadrants.append((weight, q, q0, True))
        return quadrants
    if rule == "w_square":
        return [(1.0, w**2, b**2, True)]
    if rule == "flat":
        return [(1.0, layer.connected[:, j].astype(float), 0.0, True)]
    if rule == "z_box":
        low, high = parameters["low"], parameters["high"]
        q = [v * u - low * positive(u) - high * negative(u) for v, u in zip(x, w, strict=True)]
        return [(1.0, np.array(q) * layer.connected[:, j], 0.0, False)]
    raise ValueError(rule)


def propagate(rule, parameters, layer, x, relevance, renormalise=False):
    """The relevance of the inputs of one instance, and the books."""
    epsilon = parameters["epsilon"]
    z = x[:, None] * layer.weights
    found, books = np.zeros(len(x)), Books()
    for j, r in enumerate(relevance):
        if rule == "gamma" and z[:, j].sum() + (0 if parameters.get("ignore_bias") else layer.bias[j]) == 0:
            books.stabiliser += r
            continue
        parts = branches(rule, parameters, layer, x, z, j)
        total = sum(weight for weight, *_ in parts)
        if renormalise and rule == "alpha_beta":
            full = branches(rule, parameters | {"beta": 1.0, "alpha": 2.0}, layer, x, z, j)
            up, down = ((q.sum() + q0) != 0 for _, q, q0, _ in full)
            if up and not down:
                parts = [(1.0, *full[0][1:])]
            elif down and not up:
                parts = [(1.0, *full[1][1:])]
            elif not up and not down:
                parts = [(1.0, *full[0][1:])]
        for weight, q, q0, pure in parts:
            n = q.sum() + q0
            if pure and n == 0:
                books.empty += weight * r
                continue
            if n == 0 and epsilon == 0:
                books.stabiliser += weight * r
                continue
            d = n + epsilon * sign(n)
            found += weight * q * r / d
            books.bias += weight * q0 * r / d
            books.stabiliser += weight * (d - n) * r / d
        books.sink += (1 - total) * r
    return found, books


def convolution_matrix(kernel, shape, stride=1, padding="SAME", groups=1):
    """A convolution with a kernel (height, width, inputs / groups, outputs) as a matrix, and where it has entries.

    Padding SAME is TensorFlow's: what is odd goes behind.
    """
    height, width, channels = shape
    kh, kw, inner, outer = kernel.shape
    if padding == "SAME":
        out_h, out_w = -(-height // stride), -(-width // stride)
        top = max((out_h - 1) * stride + kh - height, 0) // 2
        left = max((out_w - 1) * stride + kw - width, 0) // 2
    else:
        out_h, out_w, top, left = (height - kh) // stride + 1, (width - kw) // stride + 1, 0, 0
    weights = np.zeros((height, width, channels, out_h, out_w, outer))
    connected = np.zeros(weights.shape, bool)
    for oh, ow, dh, dw in itertools.product(range(out_h), range(out_w), range(kh), range(kw)):
        ih, iw = oh * stride + dh - top, ow * stride + dw - left
        if not (0 <= ih < height and 0 <= iw < width):
            continue
        for o, i in itertools.product(range(outer), range(inner)):
            channel = (o // (outer // groups)) * inner + i
            weights[ih, iw, channel, oh, ow, o] = kernel[dh, dw, i, o]
            connected[ih, iw, channel, oh, ow, o] = True
    rows = height * width * channels
    return weights.reshape(rows, -1), connected.reshape(rows, -1), (out_h, out_w, outer)
