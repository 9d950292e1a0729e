"""Forward passes through a session of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.runtime.feeds import checked_feed, run_in_chunks
from sidelight_engines.runtime.greatest import with_doubts
from sidelight_engines.runtime.runtime import Array

if TYPE_CHECKING:
    import onnxruntime

# What ONNX Runtime can do in the layout in which it convolves: the greatest, and what shows values that are not finite.
GREATEST, MEAN = "GlobalMaxPool", "GlobalAveragePool"


def pooled(tensor: str, op: str) -> str:
    """What a tensor is called when it has been pooled."""
    return f"sidelight/{op}/{tensor}"


class OnnxForwardPass:
    """A forward pass through one session.

    Args:
        session: evaluates what is not fed; None if all that is fetched is fed.
        tensors: what to fetch.
        greatest: tensors to fetch the greatest values of.
        inputs: what is fed.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession | None,
        tensors: tuple[str, ...],
        greatest: tuple[str, ...],
        inputs: tuple[TensorSpec, ...],
    ) -> None:
        self._session = session
        self._tensors = tensors
        self._greatest = greatest
        self._inputs = inputs
        self._dtypes = {spec.name: spec.dtype for spec in inputs}
        self._shapes = {spec.name: spec.shape for spec in inputs}
        fed = {spec.tensor for spec in inputs}
        made = [pooled(tensor, op) for tensor in greatest for op in (GREATEST, MEAN)]
        self._fetched = tuple(dict.fromkeys([*(tensor for tensor in tensors if tensor not in fed), *made]))
        fixed = [spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None]
        self._fixed_batch = fixed[0] if fixed else None

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Evaluates the model.

        Args:
            inputs: input name -> array of the input's dtype, axis 0 the batch, the same length in all.

        Returns:
            One array per fetched tensor, in the order in which they were asked for; axis 0 is the batch. Then the
            greatest values that were asked for.

        Raises:
            InvalidField: an input is missing, or has a shape that the model does not take.
        """
        checked = checked_feed(inputs, self._dtypes, self._shapes)
        feed = {spec.tensor: checked[spec.name] for spec in self._inputs}
        values = self._run(feed) if self._fixed_batch is None else run_in_chunks(self._run, feed, self._fixed_batch)
        found = feed | dict(zip(self._fetched, values, strict=True))
        # Pooled tensors keep an axis of length 1 for each that they had.
        greatest = [
            with_doubts(*(found[pooled(tensor, op)][:, :, 0, 0] for op in (GREATEST, MEAN)))
            for tensor in self._greatest
        ]
        return [found[tensor] for tensor in self._tensors] + greatest

    def _run(self, feed: Mapping[str, Array]) -> list[Array]:
        return [] if self._session is None else run_session(self._session, self._fetched, feed)


def run_session(
    session: onnxruntime.InferenceSession, tensors: Sequence[str], feed: Mapping[str, Array]
) -> list[Array]:
    """Evaluates a session; a feed that it does not take is an InvalidField."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        values: list[Array] = session.run(tensors, dict(feed))
    except (state.Fail, state.InvalidArgument, state.RuntimeException) as error:
        raise InvalidField("inputs", f"the model can not be run on them: {error}", "check their shapes") from error
    return values
