"""The calls of both clients that are about influence."""

from __future__ import annotations

from typing import Unpack

from sidelight.aio_connection import AsyncConnection
from sidelight.aio_job import AsyncJob
from sidelight.arrays import Inputs
from sidelight.connection import Connection
from sidelight.influence import InfluenceExplanation
from sidelight.influence_decode import decode_influence
from sidelight.influence_options import InfluenceOptions, check_size, influence_request, shows_influence_options
from sidelight.job import Job
from sidelight.pace import Deadline
from sidelight.selection import ReferenceSelection


class InfluenceCalls(Connection):
    """What `sidelight.Client` does about influence."""

    @shows_influence_options
    def influence(
        self,
        model: str | None = None,
        x: Inputs | ReferenceSelection | None = None,
        *,
        reference: str | ReferenceSelection | None = None,
        timeout: float | None = None,
        **options: Unpack[InfluenceOptions],
    ) -> InfluenceExplanation:
        """Tells how predictions, or metrics of them, would change if a feature's mean moved.

        The data are reweighted as little as possible (entropic tilting) so that the mean of one
        feature reaches a target, and predictions are averaged under these weights. Which target
        is said by `taus` or `targets`; what is left out, or None, takes the server's default.

        Args:
            model: ``"digits"``, ``"digits:3"`` for a version or ``"digits@stable"`` for a label. May be
                left out where `predictions` are given.
            x: the examples: an array whose first axis counts them, or a selection of a reference set.
            reference: in place of `x`: the name of a reference set, for all of it, or a selection.
            timeout: in seconds.
            labels: of the examples, for metrics: class indices, one-hot rows, or targets; by default
                those of the reference set.
            taus: where means are moved: 0 is the data as they are, 1 the mean at the high quantile of
                the feature, -1 at the low one; by default (-1, 1).
            targets: in place of `taus`: means in the feature's own unit, each for every feature.
            metrics: to measure beside mean predictions: ``"accuracy"``, ``"log-loss"``, ``"brier"``,
                ``"precision"``, ``"recall"``, ``"f1"``, ``"auc"``, ``"squared-error"``, ``"absolute-error"``.
            groups: a whole number for each example: metrics are measured within each group too.
            predictions: (n,) or (n, labels), in place of the model's.
            output: the output that predictions are taken from, by name.
            features: flat positions in an example; by default all.
            feature_names: of every feature of an example, in flat order.
            quantiles: what taus -1 and 1 stand for; by default (0.05, 0.95).
            unattainable: what happens where a target lies at or beyond a bound of the feature:
                ``"boundary"``, ``"missing"`` or ``"error"``.
            confidence: adds confidence intervals of this level, such as 0.95.
            ethik_compatible: stops where ethik 0.0.4 stops in place of solving exactly.
            picture: ``"png"`` or ``"svg"`` for maps of images, curves and a ranking of features.
            picture_width: in pixels.
            picture_dark: light text on a dark ground.

        Raises:
            InvalidArgument: an option has a value that it may not have, or one is missing.
            SidelightError: the call failed.
        """
        request = influence_request(model, x, reference, options)
        check_size(request, self._max_message_bytes)
        return decode_influence(self._call(self._explain.ExplainInfluence, request, Deadline(timeout)))

    @shows_influence_options
    def submit_influence(
        self,
        model: str | None = None,
        x: Inputs | ReferenceSelection | None = None,
        *,
        reference: str | ReferenceSelection | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[InfluenceOptions],
    ) -> Job[InfluenceExplanation]:
        """Puts the work of `influence` in the server's queue and returns at once.

        The server needs a data directory. The result is that of `influence`.

        Args:
            model: as for `influence`.
            x: as for `influence`.
            reference: as for `influence`.
            idempotency_key: the caller's own name for this job; a second call with the same name
                returns the job of the first, so that a call whose answer was lost can be made again.
            timeout: in seconds, for the call and not for the job.
            **options: as for `influence`.

        Raises:
            InvalidArgument: an option has a value that it may not have, or one is missing.
            SidelightError: the call failed. What the server finds only when it runs the job is
                raised by `Job.result`.
        """
        request = influence_request(model, x, reference, options)
        return self._submit(request, idempotency_key, timeout)


class AsyncInfluenceCalls(AsyncConnection):
    """What `sidelight.AsyncClient` does about influence."""

    @shows_influence_options
    async def influence(
        self,
        model: str | None = None,
        x: Inputs | ReferenceSelection | None = None,
        *,
        reference: str | ReferenceSelection | None = None,
        timeout: float | None = None,
        **options: Unpack[InfluenceOptions],
    ) -> InfluenceExplanation:
        """See `sidelight.Client.influence`."""
        request = influence_request(model, x, reference, options)
        check_size(request, self._max_message_bytes)
        return decode_influence(await self._call(self._explain.ExplainInfluence, request, Deadline(timeout)))

    @shows_influence_options
    async def submit_influence(
        self,
        model: str | None = None,
        x: Inputs | ReferenceSelection | None = None,
        *,
        reference: str | ReferenceSelection | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[InfluenceOptions],
    ) -> AsyncJob[InfluenceExplanation]:
        """See `sidelight.Client.submit_influence`."""
        request = influence_request(model, x, reference, options)
        return await self._submit(request, idempotency_key, timeout)
