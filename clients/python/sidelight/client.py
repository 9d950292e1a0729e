"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message
from numpy.typing import ArrayLike

from sidelight.activation_pattern import ActivationPatternExplanation, decode_activation_pattern
from sidelight.activation_pattern_options import (
    ActivationPatternOptions,
    activation_pattern_request,
    shows_activation_pattern_options,
)
from sidelight.arrays import Inputs
from sidelight.channel import DEFAULT_MAX_MESSAGE_BYTES, Option, channel_options
from sidelight.decode import decode_model, decode_model_detail, decode_server_info
from sidelight.errors import from_rpc_error
from sidelight.influence import InfluenceExplanation
from sidelight.influence_decode import decode_influence
from sidelight.influence_options import InfluenceOptions, check_size, influence_request, shows_influence_options
from sidelight.job import Job
from sidelight.jobs import create_request, decode_job, list_request, unknown_job
from sidelight.linearity import LinearityExplanation
from sidelight.linearity_options import LinearityOptions, instances, linearity_request, shows_linearity_options
from sidelight.linearity_run import LinearityRun
from sidelight.lrp import LrpExplanation
from sidelight.lrp_options import LrpOptions, lrp_request, shows_lrp_options
from sidelight.lrp_run import LrpRun
from sidelight.models import Model, ModelDetail, ServerInfo
from sidelight.pace import Deadline
from sidelight.references import ReferenceSet, decode_reference
from sidelight.selection import ReferenceSelection, parse_model
from sidelight.similarity_calls import SimilarityCalls
from sidelight.upload import Examples, Upload
from sidelight.v1 import (
    explain_service_pb2_grpc,
    job_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    reference_service_pb2,
    reference_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

# Called with how many instances are done, and how many there are.
Progress = Callable[[int, int], None]


def connect(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    options: Sequence[Option] = (),
) -> Client:
    """Makes a client of a server. Nothing is sent before the first call.

    Args:
        target: ``host:port``, or ``unix:/path/of/socket``.
        credentials: for TLS, as grpc.ssl_channel_credentials makes them; None for plain text.
        max_message_bytes: the largest message to send or take; the server has a limit of its own.
        options: more gRPC channel options; they win over those of this client.
    """
    return Client(target, credentials=credentials, max_message_bytes=max_message_bytes, options=options)


class Client(SimilarityCalls):
    """A connection to a Sidelight server. Safe to share between threads; use it as a context or `close` it.

    Every call takes a `timeout` in seconds, None for no limit, and raises a `SidelightError`. A call
    that finds the server unavailable is tried again a few times.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        options: Sequence[Option] = (),
    ) -> None:
        """See `connect`."""
        self.target = target
        self._max_message_bytes = max_message_bytes
        all_options = channel_options(max_message_bytes, options)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, all_options)
        else:
            self._channel = grpc.secure_channel(target, credentials, all_options)
        self._server = server_service_pb2_grpc.ServerServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._references = reference_service_pb2_grpc.ReferenceServiceStub(self._channel)
        self._explain = explain_service_pb2_grpc.ExplainServiceStub(self._channel)
        self._jobs = job_service_pb2_grpc.JobServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        self._channel.close()

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Tells the server's version, methods and limits."""
        request = server_service_pb2.GetServerInfoRequest()
        return decode_server_info(self._call(self._server.GetServerInfo, request, Deadline(timeout)))

    def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """Lists every model of the repository, with the state of each version."""
        deadline = Deadline(timeout)
        found: list[Model] = []
        request = model_service_pb2.ListModelsRequest()
        while True:
            response = self._call(self._models.ListModels, request, deadline)
            found.extend(decode_model(model) for model in response.models)
            if not response.next_page_token:
                return tuple(found)
            request = model_service_pb2.ListModelsRequest(page_token=response.next_page_token)

    def model(self, model: str, *, timeout: float | None = None) -> ModelDetail:
        """Describes one loaded model version: inputs, outputs, layers, and the methods it supports.

        Args:
            model: ``"digits"``, ``"digits:3"`` for a version or ``"digits@stable"`` for a label.
            timeout: in seconds.
        """
        request = model_service_pb2.GetModelRequest(model=parse_model(model))
        return decode_model_detail(self._call(self._models.GetModel, request, Deadline(timeout)).model)

    def load(self, model: str, *, check_gradients: bool = False, timeout: float | None = None) -> ModelDetail:
        """Loads a version, or loads it anew if its files changed; returns when it serves.

        Args:
            model: which; without a version, the highest on disk.
            check_gradients: also compare the TensorFlow form of an ONNX model with ONNX Runtime
                now, rather than at the first request that needs gradients.
            timeout: in seconds.
        """
        request = model_service_pb2.LoadModelRequest(model=parse_model(model), check_gradients=check_gradients)
        return decode_model_detail(self._call(self._models.LoadModel, request, Deadline(timeout)).model)

    def unload(self, model: str, *, timeout: float | None = None) -> Model:
        """Takes a version, or all versions of a model, out of service; returns when its memory is free.

        Args:
            model: which; without a version or label, all versions.
            timeout: in seconds.
        """
        request = model_service_pb2.UnloadModelRequest(model=parse_model(model))
        return decode_model(self._call(self._models.UnloadModel, request, Deadline(timeout)).model)

    def references(self, *, timeout: float | None = None) -> tuple[ReferenceSet, ...]:
        """Lists the reference sets that the server keeps."""
        deadline = Deadline(timeout)
        found: list[ReferenceSet] = []
        request = reference_service_pb2.ListReferencesRequest()
        while True:
            response = self._call(self._references.ListReferences, request, deadline)
            found.extend(decode_reference(reference) for reference in response.references)
            if not response.next_page_token:
                return tuple(found)
            request = reference_service_pb2.ListReferencesRequest(page_token=response.next_page_token)

    def reference(self, name: str, *, feature_ranges: bool = False, timeout: float | None = None) -> ReferenceSet:
        """Describes one reference set.

        Args:
            name: its name.
            feature_ranges: also tell the least and greatest value of each feature.
            timeout: in seconds.
        """
        request = reference_service_pb2.GetReferenceRequest(name=name, feature_ranges=feature_ranges)
        return decode_reference(self._call(self._references.GetReference, request, Deadline(timeout)).reference)

    def create_reference(
        self,
        name: str,
        x: Examples,
        labels: ArrayLike | None = None,
        *,
        model: str | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> ReferenceSet:
        """Uploads a reference set, in chunks; all of it is there at the end, or nothing.

        Args:
            name: 1 to 63 of a-z, 0-9, ``-``, ``_`` and ``.``, beginning with a letter or digit.
            x: the examples: an array whose first axis counts them (also a memory-mapped one), a dict of arrays by
                input name, or an iterator of chunks, each of which is one of these or a pair ``(x, labels)``.
            labels: of the examples: whole numbers for classes, one-hot rows, or floating-point targets.
            model: if given, examples and labels must fit this model.
            progress: called with (done, total) examples after each chunk; for an iterator, total is 0.
            timeout: in seconds.

        Raises:
            InvalidArgument: the examples can not be sent, or the server refuses one of them, which it names.
            AlreadyExists: there is a set of that name.
            SidelightError: the call failed.
        """
        remaining = Deadline(timeout).remaining()
        upload = Upload(name, x, labels, model or "", progress, self._max_message_bytes)
        try:
            response = self._references.CreateReference(upload.messages(), timeout=remaining)
        except grpc.RpcError as error:
            if upload.failure is not None:
                raise upload.failure from error
            raise from_rpc_error(error, self.target) from error
        return decode_reference(response.reference)

    def import_reference(
        self,
        name: str,
        path: str,
        *,
        inputs_key: str | None = None,
        labels_key: str | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> ReferenceSet:
        """Makes a reference set of a file that the server can read, below its import directory.

        Args:
            name: see `create_reference`.
            path: the file, relative to that directory: ``.npz``, ``.npy`` or ``.parquet``.
            inputs_key: the array (``.npz``) or column (``.parquet``) of the examples; by default ``x``.
            labels_key: that of the labels, for ``.npy`` the path of a second file, ``"-"`` for none; by default
                ``y`` where there is one.
            model: if given, examples and labels must fit this model.
            timeout: in seconds.
        """
        request = reference_service_pb2.ImportReferenceRequest(
            name=name, path=path, inputs_key=inputs_key or "", labels_key=labels_key or "", model=model or ""
        )
        return decode_reference(self._call(self._references.ImportReference, request, Deadline(timeout)).reference)

    def delete_reference(self, name: str, *, timeout: float | None = None) -> None:
        """Deletes a reference set that nothing uses."""
        request = reference_service_pb2.DeleteReferenceRequest(name=name)
        self._call(self._references.DeleteReference, request, Deadline(timeout))

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
        deadline = Deadline(timeout)
        run = LinearityRun(
            model,
            x,
            options,
            instances_per_call=instances_per_call,
            paced=progress is not None,
            max_message_bytes=self._max_message_bytes,
        )
        while (request := run.next_request()) is not None:
            started = time.monotonic()
            response = self._call(self._explain.ExplainLinearity, request, deadline)
            run.accept(response, time.monotonic() - started)
            if progress is not None:
                progress(run.done, run.total)
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
        deadline = Deadline(timeout)
        run = LrpRun(
            model,
            x,
            options,
            instances_per_call=instances_per_call,
            paced=progress is not None,
            max_message_bytes=self._max_message_bytes,
        )
        while (request := run.next_request()) is not None:
            started = time.monotonic()
            response = self._call(self._explain.ExplainLrp, request, deadline)
            run.accept(response, time.monotonic() - started)
            if progress is not None:
                progress(run.done, run.total)
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
        create = create_request(request, idempotency_key, self._max_message_bytes)
        answer = self._call(self._jobs.CreateJob, create, Deadline(timeout))
        return Job(decode_job(answer.job), self, self._jobs)

    def jobs(self, *, states: Sequence[str] = (), timeout: float | None = None) -> tuple[Job[Any], ...]:
        """Lists the jobs that the server keeps, newest first.

        Args:
            states: only jobs in these: ``"queued"``, ``"running"``, ``"succeeded"``, ``"failed"``,
                ``"cancelled"``.
            timeout: in seconds.
        """
        deadline = Deadline(timeout)
        found: list[Job[Any]] = []
        request = list_request(states)
        while True:
            response = self._call(self._jobs.ListJobs, request, deadline)
            found.extend(Job(decode_job(job), self, self._jobs) for job in response.jobs)
            if not response.next_page_token:
                return tuple(found)
            request.page_token = response.next_page_token

    def job(self, job: str, *, timeout: float | None = None) -> Job[Any]:
        """Finds a job by its id."""
        return Job(unknown_job(job), self, self._jobs).refresh(timeout=timeout)

    def _submit(self, request: Message, idempotency_key: str | None, timeout: float | None) -> Job[Any]:
        create = create_request(request, idempotency_key, self._max_message_bytes)
        answer = self._call(self._jobs.CreateJob, create, Deadline(timeout))
        return Job(decode_job(answer.job), self, self._jobs)

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, deadline: Deadline
    ) -> _Response:
        remaining = deadline.remaining()
        try:
            return method(request, timeout=remaining)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.target) from error
