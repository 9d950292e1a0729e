"""The calls of both clients that are about activation patterns."""

from __future__ import annotations

from typing import Unpack

from sidelight.activation_pattern import ActivationPatternExplanation, decode_activation_pattern
from sidelight.activation_pattern_options import (
    ActivationPatternOptions,
    activation_pattern_request,
    shows_activation_pattern_options,
)
from sidelight.aio_connection import AsyncConnection
from sidelight.aio_job import AsyncJob
from sidelight.arrays import Inputs
from sidelight.connection import Connection
from sidelight.job import Job
from sidelight.pace import Deadline
from sidelight.selection import ReferenceSelection


class ActivationPatternCalls(Connection):
    """What `sidelight.Client` does about activation patterns."""

    @shows_activation_pattern_options
    def activation_pattern(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        timeout: float | None = None,
        **options: Unpack[ActivationPatternOptions],
    ) -> ActivationPatternExplanation:
        """Measures which classes fire the same neurons, at any layers of a model.

        A unit fires for an example where its activation is above a threshold; a class's pattern is the share of its
        examples for which each unit fires, and classes are compared by their patterns. What is left out, or None,
        takes the server's default; the result's `parameters` say which that was.

        Args:
            model: ``"digits"``, ``"digits:3"`` for a version or ``"digits@stable"`` for a label.
            x: the examples: a selection of a reference set, or arrays as for `linearity`, which go in one message.
            timeout: in seconds.
            layers: ``"all"``, or names of layers. Required.
            labels: the class of each example of an array; a reference set has its own.
            by_prediction: whether examples are grouped by the class that the model predicts instead.
            threshold: above which a unit fires.
            quantile: in its place: of each unit's own activations, 0 to 1.
            pooling: how the positions of a channel become one unit: ``"any"``, ``"mean"`` or ``"position"``.
            divisor: what counts are divided by, in place of the number of examples of the class.
            distances: one or several of ``"mean-absolute"``, ``"cosine"``, ``"jaccard"``, ``"cka"``.
            specific_units: how many of the most class-specific units to find per class.
            output: the output that predictions are taken from, by name.
            picture: ``"png"`` or ``"svg"`` for pictures of rates, distances and neighbours.
            picture_width: in pixels.
            picture_dark: light text on a dark ground.
            picture_instances: the most classes in the picture of neighbours.

        Raises:
            InvalidArgument: an option has a value that it may not have, or one is missing.
            SidelightError: the call failed.
        """
        request = activation_pattern_request(model, x, options, self._max_message_bytes)
        return decode_activation_pattern(self._call(self._explain.ExplainActivationPattern, request, Deadline(timeout)))

    @shows_activation_pattern_options
    def submit_activation_pattern(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[ActivationPatternOptions],
    ) -> Job[ActivationPatternExplanation]:
        """Puts the work of `activation_pattern` in the server's queue and returns at once; see `submit_linearity`.

        Args:
            model: as for `activation_pattern`.
            x: as for `activation_pattern`.
            idempotency_key: the caller's own name for this job.
            timeout: in seconds, for the call and not for the job.
            **options: as for `activation_pattern`.

        Raises:
            InvalidArgument: an option has a value that it may not have, or one is missing.
            SidelightError: the call failed.
        """
        request = activation_pattern_request(model, x, options, self._max_message_bytes)
        return self._submit(request, idempotency_key, timeout)


class AsyncActivationPatternCalls(AsyncConnection):
    """What `sidelight.AsyncClient` does about activation patterns."""

    @shows_activation_pattern_options
    async def activation_pattern(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        timeout: float | None = None,
        **options: Unpack[ActivationPatternOptions],
    ) -> ActivationPatternExplanation:
        """See `sidelight.Client.activation_pattern`."""
        request = activation_pattern_request(model, x, options, self._max_message_bytes)
        answer = await self._call(self._explain.ExplainActivationPattern, request, Deadline(timeout))
        return decode_activation_pattern(answer)

    @shows_activation_pattern_options
    async def submit_activation_pattern(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[ActivationPatternOptions],
    ) -> AsyncJob[ActivationPatternExplanation]:
        """See `sidelight.Client.submit_activation_pattern`."""
        request = activation_pattern_request(model, x, options, self._max_message_bytes)
        return await self._submit(request, idempotency_key, timeout)
