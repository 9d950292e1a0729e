"""The blocking client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import grpc
from numpy.typing import ArrayLike

from sidelight.activation_pattern_calls import ActivationPatternCalls
from sidelight.channel import DEFAULT_MAX_MESSAGE_BYTES, Option
from sidelight.connection import Progress
from sidelight.decode import decode_model, decode_model_detail, decode_server_info
from sidelight.errors import from_rpc_error
from sidelight.influence_calls import InfluenceCalls
from sidelight.job import Job
from sidelight.jobs import decode_job, list_request, unknown_job
from sidelight.linearity_calls import LinearityCalls
from sidelight.lrp_calls import LrpCalls
from sidelight.models import Model, ModelDetail, ServerInfo
from sidelight.pace import Deadline
from sidelight.references import ReferenceSet, decode_reference
from sidelight.selection import parse_model
from sidelight.similarity_calls import SimilarityCalls
from sidelight.upload import Examples, Upload
from sidelight.v1 import (
    model_service_pb2,
    reference_service_pb2,
    server_service_pb2,
)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


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


class Client(LinearityCalls, SimilarityCalls, LrpCalls, ActivationPatternCalls, InfluenceCalls):
    """A connection to a Sidelight server. Safe to share between threads; use it as a context or `close` it.

    Every call takes a `timeout` in seconds, None for no limit, and raises a `SidelightError`. A call
    that finds the server unavailable is tried again a few times.
    """

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
