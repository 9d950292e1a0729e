"""Linear CKA between the activations of two classes.

Two classes have different examples, so what CKA compares, similarities between the same things in two settings, are
here similarities between units: K_c[u, v] = mean over examples of class c of x_u x_v, the linear kernel with the
units as observations and the examples as features. Units that go together in one class and in the other alike make
the CKA of the two great.

    CKA(a, b) = HSIC(K_a, K_b) / sqrt(HSIC(K_a, K_a) HSIC(K_b, K_b))

with the unbiased estimator HSIC_1 of Song et al., Feature Selection via Dependence Maximization (2012), in the form
of Szekely and Rizzo, Partial distance correlation (2014), eq. 3.1 and 3.2: U-centred kernels, multiplied entry by
entry. As in minibatch CKA (Nguyen, Raghu and Kornblith, Do wide and deep networks learn the same things?, 2021,
eq. 4) the HSICs are means over minibatches, here of the units: every k-th unit, at most `MOST_UNITS` of them, so that
memory grows with the number of units and not with its square. Sums over examples are exact, whatever the chunks.
"""

from __future__ import annotations

import math

import numpy as np

from sidelight_engines.runtime.runtime import Array

MOST_UNITS = 256
FEWEST_UNITS = 4
"""HSIC_1 is defined for four observations and more."""


class Alignment:
    """Sums up the kernels of one layer."""

    def __init__(self, classes: int, units: int) -> None:
        """Starts at 0.

        Args:
            classes: how many there are.
            units: how many; at least `FEWEST_UNITS`.
        """
        self._batches = math.ceil(units / MOST_UNITS)
        sizes = [len(range(batch, units, self._batches)) for batch in range(self._batches)]
        self._kernels = [np.zeros((classes, size, size)) for size in sizes]

    @staticmethod
    def memory_bytes(classes: int, units: int) -> int:
        """What the sums of a layer take."""
        return classes * units * min(units, MOST_UNITS) * 8

    def add(self, activations: Array, classes: Array) -> None:
        """Adds some examples.

        Args:
            activations: (examples, units).
            classes: int64 (examples,), their positions among the classes.
        """
        for position in np.unique(classes):
            values = activations[classes == position].astype(np.float64)
            for batch, kernels in enumerate(self._kernels):
                part = values[:, batch :: self._batches]
                kernels[position] += part.T @ part

    def cka(self, counts: Array) -> tuple[Array, Array]:
        """The CKA of all pairs of classes.

        Args:
            counts: int64 (classes,), how many examples each has; at least 1.

        Returns:
            float64 (classes, classes), symmetric, -1 to 1; and bool (classes,), whether a class has a CKA at all: it
            has none where all pairs of units go together alike, as where every unit is 0. Then its row holds 0.
        """
        total = np.zeros((len(counts), len(counts)))
        for kernels in self._kernels:
            centred = np.stack([_centred(kernel / count) for kernel, count in zip(kernels, counts, strict=True)])
            flat = centred.reshape(len(counts), -1)
            size = kernels.shape[1]
            total += flat @ flat.T / (size * (size - 3))
        own = np.sqrt(np.diagonal(total))
        # What is left of equal numbers after centring is rounding.
        sizes = np.array([max(float(np.abs(k[c]).max()) / n for k in self._kernels) for c, n in enumerate(counts)])
        known = own > 1e-12 * sizes
        scale = np.where(known, own, 1.0)
        aligned = np.clip(total / np.outer(scale, scale), -1.0, 1.0)
        aligned[~known, :] = 0.0
        aligned[:, ~known] = 0.0
        return aligned, known


def _centred(kernel: Array) -> Array:
    """A U-centred kernel: (m, m), its diagonal 0 and each of its rows summing to 0."""
    size = len(kernel)
    kernel = kernel.copy()
    np.fill_diagonal(kernel, 0.0)
    rows = kernel.sum(axis=1)
    centred: Array = (
        kernel - (rows[:, np.newaxis] + rows[np.newaxis, :]) / (size - 2) + rows.sum() / ((size - 1) * (size - 2))
    )
    np.fill_diagonal(centred, 0.0)
    return centred
