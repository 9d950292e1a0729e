"""The weights of one operation in the forms that rules need, each made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sidelight_engines.runtime.runtime import Array


class Weights:
    """Weights and what rules make of them.

    Args:
        value: an array, kept outside the traced function and shared by all its calls; or, where the graph computes
            the weights, the tensor.
        dtype: the type that relevance is computed in.
        graph_tensor: the same weights as the graph has them, if they are not changed; saves a copy.
    """

    def __init__(self, value: Array | Any, dtype: Any, graph_tensor: Any = None) -> None:
        self._value = value
        self._dtype = dtype
        self._made: dict[str, Any] = {}
        if graph_tensor is not None and graph_tensor.dtype == dtype:
            self._made["plain"] = graph_tensor

    @property
    def constant(self) -> bool:
        """Whether the weights are known, and not computed by the graph."""
        return isinstance(self._value, np.ndarray)

    @property
    def plain(self) -> Any:
        """W."""
        return self._form("plain", lambda w: w)

    @property
    def absolute(self) -> Any:
        """|W|."""
        return self._form("absolute", abs)

    @property
    def positive(self) -> Any:
        """W+."""
        return self._form("positive", lambda w: (abs(w) + w) / 2)

    @property
    def negative(self) -> Any:
        """|W-|."""
        return self._form("negative", lambda w: (abs(w) - w) / 2)

    @property
    def squared(self) -> Any:
        """W^2."""
        return self._form("squared", lambda w: w * w)

    @property
    def ones(self) -> Any:
        """1 in the shape of W."""
        return self._form("ones", lambda w: w * 0 + 1)

    def favoured(self, gamma: float) -> Any:
        """W + gamma W+."""
        return self._form(f"favoured {gamma!r}", lambda w: w + gamma * ((abs(w) + w) / 2))

    def halves(self, axis: int) -> Weights:
        """W, and behind it -W along an axis."""
        import tensorflow as tf

        if self.constant:
            return Weights(np.concatenate([self._value, -self._value], axis), self._dtype)
        return Weights(tf.concat([self._value, -self._value], axis), self._dtype)

    def _form(self, name: str, make: Callable[[Any], Any]) -> Any:
        import tensorflow as tf

        if name not in self._made:
            if self.constant:
                # Outside the function: it is read by reference there, not copied into the graph.
                with tf.init_scope():
                    self._made[name] = tf.constant(make(self._value.astype(self._dtype.as_numpy_dtype)))
            else:
                self._made[name] = make(tf.cast(self._value, self._dtype))
        return self._made[name]
