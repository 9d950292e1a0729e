"""What a worker does: holds models and runs methods on them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidelight_engines.control import Control
from sidelight_engines.errors import Stopped
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.model import Model, open_model

from sidelight_service.convert.details import model_to_detail
from sidelight_service.errors import CallTimedOut, WorkerLost
from sidelight_service.indexes.shelf import IndexShelf, Owner
from sidelight_service.methods import activation_pattern, gradient_index, influence, linearity, lrp, similarity
from sidelight_service.methods.context import Limits, MethodContext, Version
from sidelight_service.references.store import Location

METHODS: Mapping[str, Callable[[MethodContext, bytes], bytes]] = {
    "ExplainLinearity": linearity.explain,
    "CheckLinearity": linearity.check,
    "DrawLinearity": linearity.draw,
    "ExplainSimilarity": similarity.explain,
    "CheckSimilarity": similarity.check,
    "DrawSimilarity": similarity.draw,
    "BuildGradientIndex": gradient_index.extend,
    "CheckGradientIndex": gradient_index.check,
    "ExplainActivationPattern": activation_pattern.explain,
    "ExplainInfluence": influence.explain,
    "ExplainLrp": lrp.explain,
    "CheckLrp": lrp.check,
    "DrawLrp": lrp.draw,
}
"""The methods that this server has, by the name of the RPC; and what jobs do before and after their slices."""


@dataclass(frozen=True)
class Options:
    """What a worker is told at start.

    Attributes:
        threads: that a runtime uses for one request; None for one per processor.
        chunk_bytes: what one chunk of activations may take, in bytes.
        log_format: "json" or "console".
        log_level: the least severe lines that are written.
        message_bytes: what a response may take.
        unindexed_bytes: what the gradients of references without an index may take in one request.
        indexes: the folder of all gradient indexes; None for a server that keeps nothing.
        index_bytes: what all of them may take on the disk.
    """

    threads: int | None
    chunk_bytes: int
    log_format: str
    log_level: str
    message_bytes: int
    unindexed_bytes: int
    indexes: str | None
    index_bytes: int


@dataclass(frozen=True)
class Call:
    """One call from the front process.

    Attributes:
        payload: the serialized message that goes with it.
        arguments: the plain arguments that go with it.
        cancelled: set when the caller no longer waits.
        queue_seconds: how long the call waited in this process.
        report: tells the front process (units done, units in all).
    """

    payload: bytes
    arguments: Mapping[str, Any]
    cancelled: threading.Event
    queue_seconds: float
    report: Callable[[int, int], None]


@dataclass(frozen=True)
class _Held:
    model: Model
    name: str
    version: int
    digest: str

    def to_version(self) -> Version:
        return Version(self.model, Owner(self.name, self.version, self.digest))


class Host:
    """The models of one worker. Its do_ methods are the actions that the front process calls."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._models: dict[str, _Held] = {}
        root = None if options.indexes is None else Path(options.indexes)
        self._indexes = IndexShelf(root, options.index_bytes)

    def do_ping(self, call: Call) -> bytes:
        """Answers: this worker is up."""
        return b""

    def do_load(self, call: Call) -> bytes:
        """Opens a model and keeps it under its key; the serialized ModelDetail."""
        order = call.arguments
        model = open_model(Path(order["path"]), ModelFormat(order["format"]), self._options.threads)
        self._models[order["key"]] = _Held(model, order["name"], order["version"], order["digest"])
        return model_to_detail(model).SerializeToString()

    def do_unload(self, call: Call) -> bytes:
        """Lets go of a model."""
        self._models.pop(call.arguments["key"], None)
        # Graphs and traced functions refer to each other in circles.
        gc.collect()
        return b""

    def do_describe(self, call: Call) -> bytes:
        """Describes a model, if asked after making its gradient check; the serialized ModelDetail."""
        model = self._held(call.arguments["key"]).model
        if call.arguments["check_gradients"]:
            model.check_gradients()
        return model_to_detail(model).SerializeToString()

    def do_run(self, call: Call) -> bytes:
        """Runs a method; the serialized response."""
        # Without a key, the request names no model and its method can do without.
        key: str = call.arguments["key"]
        held = self._held(key) if key else None
        deadline: float = call.arguments["deadline"]

        def should_stop() -> bool:
            return call.cancelled.is_set() or time.monotonic() > deadline

        context = MethodContext(
            opened=held.model if held else None,
            name=held.name if held else "",
            version=held.version if held else 0,
            digest=held.digest if held else "",
            control=Control(should_stop=should_stop, progress=call.report),
            chunk_bytes=self._options.chunk_bytes,
            queue_seconds=call.arguments["waited"] + call.queue_seconds,
            references={name: Location(**where) for name, where in call.arguments["references"].items()},
            versions={path: self._held(key).to_version() for path, key in call.arguments["models"].items()},
            indexes=self._indexes,
            limits=Limits(self._options.message_bytes, self._options.unindexed_bytes),
            threads=self._options.threads,
        )
        try:
            return METHODS[call.arguments["method"]](context, call.payload)
        except Stopped as error:
            if call.cancelled.is_set():
                raise
            raise CallTimedOut("the deadline passed while the model was being explained; allow more time") from error

    def _held(self, key: str) -> _Held:
        held = self._models.get(key)
        if held is None:
            # It was loaded by every worker but this one, which has just been started anew.
            raise WorkerLost("the compute worker does not have the model yet; retry")
        return held
