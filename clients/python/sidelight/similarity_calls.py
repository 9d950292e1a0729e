"""The calls of both clients that are about similarity."""

from __future__ import annotations

from typing import Unpack

from sidelight.aio_connection import AsyncConnection
from sidelight.aio_job import AsyncJob
from sidelight.arrays import Inputs
from sidelight.connection import Connection, Progress
from sidelight.job import Job
from sidelight.linearity_options import instances
from sidelight.selection import ReferenceSelection
from sidelight.similarity import GradientIndex, SimilarityExplanation
from sidelight.similarity_options import (
    SimilarityOptions,
    gradient_index_request,
    shows_similarity_options,
    similarity_request,
)
from sidelight.similarity_run import SimilarityRun


class SimilarityCalls(Connection):
    """What `sidelight.Client` does about similarity."""

    @shows_similarity_options
    def similarity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        instances_per_call: int | None = None,
        **options: Unpack[SimilarityOptions],
    ) -> SimilarityExplanation:
        """Finds the reference examples that the model treats like each instance, by gradients of its loss.

        A request goes in one call, or in as few as the message limit allows. Where the references are many it
        needs a gradient index: see `submit_gradient_index`. What is left out, or None, takes the server's default.

        Args:
            model: ``"digits"``, ``"digits:3"`` for a version or ``"digits@stable"`` for a label.
            x: the instances: an array whose first axis is the batch, a dict of them by input name,
                or a selection of a reference set. Sent as they are; the server casts.
            progress: called with (done, total) instances after each call.
            timeout: in seconds, for all calls together.
            instances_per_call: goes in calls of this many instances, or fewer if the message limit asks for it.
                Without an index every call computes the gradients of the references anew.
            reference: the references: the name of a reference set, or a selection of one. Must be given.
            labels: of the instances: class indices, one-hot rows or targets. By default those of `x` if that is
                a selection and `label_source` is ``"given"``, else the model's predictions.
            label_source: ``"given"`` or ``"prediction"``.
            function: ``"cos"``, ``"dot"``, ``"asym-dot"`` or ``"relatif"``.
            loss: ``"categorical-cross-entropy"``, ``"categorical-cross-entropy-from-logits"``,
                ``"binary-cross-entropy"``, ``"binary-cross-entropy-from-logits"``, ``"squared-error"``,
                ``"absolute-error"`` or ``"huber"``; by default the model's head decides.
            output: the output that the loss reads, by name.
            layers: names of the layers whose parameters count; all by default.
            top: how many of the most similar to return.
            bottom: how many of the least similar to return.
            all_scores: also return every score.
            examples: also return the examples found.
            class_means: also return mean scores by label and by prediction of the references.
            layer_contributions: also return what each layer contributes to each score.
            self_influence: also return the similarity of each instance to itself.
            aggregate: add the gradients of all instances up, and rank once for them together.
            checkpoints: further model versions whose scores are added, with their weights (TracIn):
                ``{"digits:1": 0.1, "digits:2": 0.05}``.
            norm_offset: what is added to denominators; 1e-7 is what alibi adds.
            picture: ``"png"`` or ``"svg"`` for a strip of neighbours and, for classes, mean scores by class.
            picture_width: in pixels.
            picture_instances: the most instances to draw.
            picture_dark: light text on a dark ground.

        Raises:
            InvalidArgument: an option has a value that it may not have, or one is missing.
            FailedPrecondition: the references need a gradient index (reason ``INDEX_MISSING``), or the one there is
                does not fit any more (``INDEX_STALE``).
            SidelightError: the call failed.
        """
        run = SimilarityRun(
            model, x, options, instances_per_call=instances_per_call, max_message_bytes=self._max_message_bytes
        )
        self._drive(run, self._explain.ExplainSimilarity, progress, timeout)
        return run.result()

    @shows_similarity_options
    def submit_similarity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SimilarityOptions],
    ) -> Job[SimilarityExplanation]:
        """Puts the work of `similarity` in the server's queue and returns at once; see `submit_linearity`.

        Args:
            model: as for `similarity`.
            x: as for `similarity`; all of it goes in one message.
            idempotency_key: the caller's own name for this job.
            timeout: in seconds, for the call and not for the job.
            **options: as for `similarity`.

        Raises:
            InvalidArgument: an option has a value that it may not have, or one is missing.
            SidelightError: the call failed. What the server finds only when it runs the job is
                raised by `Job.result`.
        """
        request = similarity_request(model, options)
        request.instances.CopyFrom(instances(x, "x"))
        return self._submit(request, idempotency_key, timeout)

    def submit_gradient_index(
        self,
        model: str,
        reference: str,
        *,
        loss: str | None = None,
        label_source: str | None = None,
        output: str | None = None,
        precision: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Job[GradientIndex]:
        """Has the server build the gradients of a whole reference set, which `similarity` then searches.

        The index serves requests with the same model version, set, loss and output, whatever their other options.
        One that is there already is not built again. It goes when the reference set is deleted.

        Args:
            model: whose gradients.
            reference: the name of the reference set.
            loss: as for `similarity`.
            label_source: ``"given"``, the labels of the set, or ``"prediction"`` for a set without.
            output: the output that the loss reads, by name.
            precision: ``"float32"``, or ``"float16"`` for half the size.
            idempotency_key: the caller's own name for this job.
            timeout: in seconds, for the call and not for the job.

        Raises:
            InvalidArgument: an option has a value that it may not have.
            SidelightError: the call failed. What the server finds only when it runs the job is
                raised by `Job.result`.
        """
        request = gradient_index_request(model, reference, loss, label_source, output, precision)
        return self._submit(request, idempotency_key, timeout)


class AsyncSimilarityCalls(AsyncConnection):
    """What `sidelight.AsyncClient` does about similarity."""

    @shows_similarity_options
    async def similarity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        instances_per_call: int | None = None,
        **options: Unpack[SimilarityOptions],
    ) -> SimilarityExplanation:
        """See `sidelight.Client.similarity`."""
        run = SimilarityRun(
            model, x, options, instances_per_call=instances_per_call, max_message_bytes=self._max_message_bytes
        )
        await self._drive(run, self._explain.ExplainSimilarity, progress, timeout)
        return run.result()

    @shows_similarity_options
    async def submit_similarity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SimilarityOptions],
    ) -> AsyncJob[SimilarityExplanation]:
        """See `sidelight.Client.submit_similarity`."""
        request = similarity_request(model, options)
        request.instances.CopyFrom(instances(x, "x"))
        return await self._submit(request, idempotency_key, timeout)

    async def submit_gradient_index(
        self,
        model: str,
        reference: str,
        *,
        loss: str | None = None,
        label_source: str | None = None,
        output: str | None = None,
        precision: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> AsyncJob[GradientIndex]:
        """See `sidelight.Client.submit_gradient_index`."""
        request = gradient_index_request(model, reference, loss, label_source, output, precision)
        return await self._submit(request, idempotency_key, timeout)
