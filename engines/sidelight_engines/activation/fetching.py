"""Forward passes that bring the observed layers, pooled on the way where that gives the same numbers.

The greatest value over positions is the same number whoever takes it, and whoever takes it from a copy reads the
largest tensors of a network once more. So a runtime that can take it itself is asked to (`Runtime.lanes`). It marks
what it is not sure of, and that is fetched as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sidelight_engines.activation.parameters import UnitPooling
from sidelight_engines.activation.plan import ObservedLayer
from sidelight_engines.graph.graph import Layer
from sidelight_engines.runtime.runtime import Array, ForwardPass, Runtime

_AXES = 4


class Fetching:
    """Fetches observed layers, and the output that tells classes if there is one.

    Attributes:
        lanes: how many calls at a time fill the processors.
        pooled_bytes: what the layers that are pooled on the way take per example, which no result shows.
    """

    def __init__(
        self, layers: Sequence[ObservedLayer], output: str | None, pooling: UnitPooling, runtime: Runtime
    ) -> None:
        """Prepares the passes.

        Args:
            layers: the observed layers.
            output: the tensor that tells classes.
            pooling: how positions become units.
            runtime: evaluates the model.
        """
        self._runtime = runtime
        self._tensors = [observed.layer.tensor for observed in layers] + ([] if output is None else [output])
        row_bytes = {
            observed.layer.tensor: _pooled_bytes(observed.layer, runtime.pooled_axis)
            for observed in layers
            if pooling is UnitPooling.ANY and observed.layer.tensor != output
        }
        pooled = [tensor for tensor, taken in row_bytes.items() if taken]
        whole = list(dict.fromkeys(tensor for tensor in self._tensors if tensor not in pooled))
        self._order = [*whole, *pooled]
        self._pooled = slice(len(whole), None)
        passes = runtime.lanes(whole, pooled)
        self._forward = passes.forward
        self._exact: ForwardPass | None = None
        self.lanes = passes.count
        self.pooled_bytes = sum(row_bytes.values())

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Evaluates the model; may be called from several threads.

        Args:
            inputs: input name -> array, axis 0 the batch.

        Returns:
            One array per observed layer, then the output: what the layer gave, or (rows, units) if it was pooled.
        """
        if self._exact is None:
            fetched = self._forward(inputs)
            if not any(np.isnan(values).any() for values in fetched[self._pooled]):
                return self._in_order(self._order, fetched)
        # From now on: a model that gives infinite numbers, such as those of a mask, does for every example.
        names = list(dict.fromkeys(self._tensors))
        self._exact = self._exact or self._runtime.lanes(names).forward
        return self._in_order(names, self._exact(inputs))

    def _in_order(self, names: Sequence[str], fetched: Sequence[Array]) -> list[Array]:
        found = dict(zip(names, fetched, strict=True))
        return [found[tensor] for tensor in self._tensors]


def _pooled_bytes(layer: Layer, pooled_axis: int) -> int:
    """What a layer takes per example if a runtime can pool it; 0 if not."""
    if layer.dtype != "float32" or layer.shape is None or len(layer.shape) != _AXES:
        return 0
    axis = _AXES - 1 if layer.channel_axis is None else layer.channel_axis
    if axis != pooled_axis:
        return 0
    return 4 * math.prod(length or 0 for length in layer.shape[1:])
