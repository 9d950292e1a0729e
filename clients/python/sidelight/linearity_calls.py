"""The calls of both clients that are about linearity."""

from __future__ import annotations

from typing import Unpack

from sidelight.aio_connection import AsyncConnection
from sidelight.aio_job import AsyncJob
from sidelight.arrays import Inputs
from sidelight.connection import Connection, Progress
from sidelight.job import Job
from sidelight.linearity import LinearityExplanation
from sidelight.linearity_options import LinearityOptions, instances, linearity_request, shows_linearity_options
from sidelight.linearity_run import LinearityRun
from sidelight.selection import ReferenceSelection


class LinearityCalls(Connection):
    """What `sidelight.Client` does about linearity."""

    @shows_linearity_options
    def linearity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        instances_per_call: int | None = None,
        **options: Unpack[LinearityOptions],
    ) -> LinearityExplanation:
        """Measures how linear a model is around each instance, at its output and at inner layers.

        One of `feature_range`, `range_data` and `neighbours` must be given: it says what "near an
        instance" means. What else is left out, or None, takes the server's default; the result's
        `parameters` say which that was.

        Args:
            model: ``"digits"``, ``"digits:3"`` for a version or ``"digits@stable"`` for a label.
            x: the instances: an array whose first axis is the batch, a dict of them by input name,
                or a selection of a reference set. Sent as they are; the server casts.
            progress: called with (done, total) instances after each part. With it, a long list goes
                in parts of about a second each; without it, in as few as the message limit allows.
            timeout: in seconds, for all parts together.
            instances_per_call: goes in parts of this many instances, or fewer if the message limit
                asks for it. The samples drawn for an instance do not depend on the split.
            layers: ``"all"``, or names of layers to measure beside the output.
            samples: the number of samples (or of neighbours) per instance.
            aggregate: ``"global"``, one superposition of all samples, or ``"pairwise"``, the mean
                over superpositions of the instance with each.
            feature_range: (minimum, maximum), each one number or an array shaped like one instance.
            range_data: instances whose least and greatest values are taken as the feature range.
            neighbours: instances in which to look for the nearest, in place of drawing on a grid.
            epsilon: the half-width of the neighbourhood as a share of the feature range.
            resolution: the number of grid steps in the feature range.
            clip: whether to keep samples within the feature range.
            coefficients: of the superposition: one per sample for ``"global"``, two for ``"pairwise"``.
            output: the output to measure, by name.
            model_type: ``"classifier"`` or ``"regressor"``; by default the graph decides.
            classifier_scale: ``"log-probability"`` or ``"exact-log-probability"``.
            probability_floor: what is added to a probability before its logarithm.
            seed: of the draws.
            draws: ``"counter"``, or ``"mersenne-twister"`` to draw as alibi does.
            first_instance: the position of x[0] in a longer list that is split by the caller.
            total_instances: the length of that list; for Mersenne Twister draws.
            word_offset: where in the Mersenne Twister stream to go on: the `next_word_offset` of an
                earlier result.
            confidence: adds a confidence interval of this level, such as 0.95.
            runtime: ``"onnx-runtime"`` or ``"tensorflow"``; by default the fastest that can.
            picture: ``"png"`` or ``"svg"`` for a bar chart of the layers; all goes in one call then.
            picture_width: in pixels.
            picture_dark: light text on a dark ground.

        Raises:
            InvalidArgument: an option has a value that it may not have, or one is missing.
            SidelightError: the call failed.
        """
        run = LinearityRun(
            model,
            x,
            options,
            instances_per_call=instances_per_call,
            paced=progress is not None,
            max_message_bytes=self._max_message_bytes,
        )
        self._drive(run, self._explain.ExplainLinearity, progress, timeout)
        return run.result()

    @shows_linearity_options
    def submit_linearity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[LinearityOptions],
    ) -> Job[LinearityExplanation]:
        """Puts the work of `linearity` in the server's queue and returns at once.

        The server needs a data directory. The result is that of `linearity`, to the last bit.

        Args:
            model: as for `linearity`.
            x: as for `linearity`; all of it goes in one message.
            idempotency_key: the caller's own name for this job; a second call with the same name
                returns the job of the first, so that a call whose answer was lost can be made again.
            timeout: in seconds, for the call and not for the job.
            **options: as for `linearity`.

        Raises:
            InvalidArgument: an option has a value that it may not have, or one is missing.
            SidelightError: the call failed. What the server finds only when it runs the job is
                raised by `Job.result`.
        """
        request = linearity_request(model, options)
        request.instances.CopyFrom(instances(x, "x"))
        return self._submit(request, idempotency_key, timeout)


class AsyncLinearityCalls(AsyncConnection):
    """What `sidelight.AsyncClient` does about linearity."""

    @shows_linearity_options
    async def linearity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        instances_per_call: int | None = None,
        **options: Unpack[LinearityOptions],
    ) -> LinearityExplanation:
        """See `sidelight.Client.linearity`."""
        run = LinearityRun(
            model,
            x,
            options,
            instances_per_call=instances_per_call,
            paced=progress is not None,
            max_message_bytes=self._max_message_bytes,
        )
        await self._drive(run, self._explain.ExplainLinearity, progress, timeout)
        return run.result()

    @shows_linearity_options
    async def submit_linearity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[LinearityOptions],
    ) -> AsyncJob[LinearityExplanation]:
        """See `sidelight.Client.submit_linearity`."""
        request = linearity_request(model, options)
        request.instances.CopyFrom(instances(x, "x"))
        return await self._submit(request, idempotency_key, timeout)
