"""The calls of both clients that are about relevance."""

from __future__ import annotations

from typing import Unpack

from sidelight.aio_connection import AsyncConnection
from sidelight.aio_job import AsyncJob
from sidelight.arrays import Inputs
from sidelight.connection import Connection, Progress
from sidelight.job import Job
from sidelight.linearity_options import instances
from sidelight.lrp import LrpExplanation
from sidelight.lrp_options import LrpOptions, lrp_request, shows_lrp_options
from sidelight.lrp_run import LrpRun
from sidelight.selection import ReferenceSelection


class LrpCalls(Connection):
    """What `sidelight.Client` does about relevance."""

    @shows_lrp_options
    def lrp(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        instances_per_call: int | None = None,
        **options: Unpack[LrpOptions],
    ) -> LrpExplanation:
        """Finds which inputs carried the evidence, by layer-wise relevance propagation or a gradient method.

        What is left out, or None, takes the server's default: the preset EpsilonPlus, from the largest
        logit of each instance.

        Args:
            model: ``"digits"``, ``"digits:3"`` for a version or ``"digits@stable"`` for a label.
            x: the instances: an array whose first axis is the batch, a dict of them by input name,
                or a selection of a reference set. Sent as they are; the server casts.
            progress: called with (done, total) instances after each part. With it, a long list goes
                in parts of about a second each; without it, in as few as the message limit allows.
            timeout: in seconds, for all parts together.
            instances_per_call: goes in parts of this many instances, or fewer if the message limit
                asks for it.
            preset: a published preset: ``"epsilon-plus"``, ``"epsilon-alpha2-beta1"``,
                ``"epsilon-gamma-box"``, ``"excitation-backprop"``, ``"sequential-a"``,
                ``"deep-taylor"`` and so on, or as their libraries write them (``"EpsilonPlusFlat"``).
            rules: in place of a preset: one rule for all operations with weights, such as
                ``"epsilon"`` or ``{"rule": "alpha-beta", "alpha": 2, "beta": 1}``, or a list of
                rules that say what they are for by ``layer``, ``layer_glob``, ``op`` or ``position``
                (``"first"``, ``"last"``); the first that matches counts, and one without is for all others.
            gradient: in place of LRP: ``"gradient"``, ``"input-times-gradient"``,
                ``"integrated-gradients"``, ``"smooth-grad"``, ``"guided-backprop"`` or ``"deconvnet"``.
            samples: for integrated gradients and SmoothGrad: the number of points.
            noise: for SmoothGrad: the standard deviation of the noise as a share of each input's range.
            baseline: for integrated gradients: where paths start; one number or one instance.
            input_range: (least, greatest) value of the inputs, each one number or one instance; for
                rules and presets with a z-box.
            classes: the class to explain, or several, each of which is explained for every instance.
            class_per_instance: one class for each instance.
            relevance: in place of classes: the relevance to start from, (n, ...logits) or
                (n, targets, ...logits).
            output: the output to explain, by name.
            value: what relevance starts as: ``"logit"``, ``"one"`` or ``"margin"``.
            layers: ``"all"``, or names of layers to return relevance at too.
            empty_branch: ``"report"`` books relevance that meets no contribution as lost, as the
                reference libraries do; ``"renormalise"`` hands it to the other branch.
            fallback: for operations that LRP has no entry for: ``"error"`` or ``"gradient"``.
            attention: ``"attn-lrp"`` or ``"cp-lrp"``.
            pixel_flipping_steps: adds the area under the pixel-flipping curve with so many steps.
            random_logit: adds the similarity to the explanation of a random other class.
            seed: of whatever is random.
            first_instance: the position of x[0] in a longer list that is split by the caller.
            picture: ``"png"`` or ``"svg"`` for heatmaps and the ledger; all goes in one call then.
            picture_width: in pixels.
            picture_instances: the most instances to draw.
            picture_dark: light text on a dark ground.

        Raises:
            InvalidArgument: an option has a value that it may not have, or options exclude each other.
            SidelightError: the call failed.
        """
        run = LrpRun(
            model,
            x,
            options,
            instances_per_call=instances_per_call,
            paced=progress is not None,
            max_message_bytes=self._max_message_bytes,
        )
        self._drive(run, self._explain.ExplainLrp, progress, timeout)
        return run.result()

    @shows_lrp_options
    def submit_lrp(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[LrpOptions],
    ) -> Job[LrpExplanation]:
        """Puts the work of `lrp` in the server's queue and returns at once.

        The server needs a data directory.

        Args:
            model: as for `lrp`.
            x: as for `lrp`; all of it goes in one message.
            idempotency_key: the caller's own name for this job; a second call with the same name
                returns the job of the first, so that a call whose answer was lost can be made again.
            timeout: in seconds, for the call and not for the job.
            **options: as for `lrp`.

        Raises:
            InvalidArgument: an option has a value that it may not have, or options exclude each other.
            SidelightError: the call failed. What the server finds only when it runs the job is
                raised by `Job.result`.
        """
        request = lrp_request(model, options)
        request.instances.CopyFrom(instances(x, "x"))
        return self._submit(request, idempotency_key, timeout)


class AsyncLrpCalls(AsyncConnection):
    """What `sidelight.AsyncClient` does about relevance."""

    @shows_lrp_options
    async def lrp(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        instances_per_call: int | None = None,
        **options: Unpack[LrpOptions],
    ) -> LrpExplanation:
        """See `sidelight.Client.lrp`."""
        run = LrpRun(
            model,
            x,
            options,
            instances_per_call=instances_per_call,
            paced=progress is not None,
            max_message_bytes=self._max_message_bytes,
        )
        await self._drive(run, self._explain.ExplainLrp, progress, timeout)
        return run.result()

    @shows_lrp_options
    async def submit_lrp(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[LrpOptions],
    ) -> AsyncJob[LrpExplanation]:
        """See `sidelight.Client.submit_lrp`."""
        request = lrp_request(model, options)
        request.instances.CopyFrom(instances(x, "x"))
        return await self._submit(request, idempotency_key, timeout)
