"""The main loop of a worker process: reads calls, runs them in threads, writes answers."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import structlog

from sidelight_service.logs import configure_logs
from sidelight_service.status import incident_of, to_status
from sidelight_service.worker.frames import Frame, pack, read
from sidelight_service.worker.host import Call, Host, Options

logger = structlog.get_logger(__name__)

_REPORT_SECONDS = 0.2
"""The least time between two reports of progress: a method may have thousands of chunks a second."""


def main(file_descriptor: int, options_json: str) -> None:
    """Runs a worker until the front process closes its end.

    Args:
        file_descriptor: our end of the socket pair.
        options_json: the Options, as JSON.
    """
    options = Options(**json.loads(options_json))
    configure_logs(options.log_format, options.log_level, sys.stdout)
    # The front process decides when a worker ends: it closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _offer_to_the_oom_killer()
    connection = socket.socket(fileno=file_descriptor)
    stream = cast(io.BufferedReader, connection.makefile("rb", buffering=1 << 20))
    worker = _Worker(connection, Host(options))
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            worker.accept(read(stream))
    # Threads may be deep in native code; there is nothing to save, so do not wait for them.
    logging.shutdown()
    os._exit(0)


def _offer_to_the_oom_killer() -> None:
    """Makes the kernel prefer a worker, which is restarted, to the front process."""
    with contextlib.suppress(OSError):  # not Linux, or not permitted: the default order holds
        Path("/proc/self/oom_score_adj").write_text("500")


class _Worker:
    def __init__(self, connection: socket.socket, host: Host) -> None:
        self._connection = connection
        self._host = host
        self._sending = threading.Lock()
        self._cancelled: dict[int, threading.Event] = {}
        # Models are loaded beside running explanations, so that a slow load holds up no request.
        self._computing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._loading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")

    def accept(self, frame: Frame) -> None:
        """Starts one call."""
        call, action = frame.header["id"], frame.header["action"]
        if action == "cancel":
            event = self._cancelled.get(call)
            if event is not None:
                event.set()
            return
        cancelled = self._cancelled.setdefault(call, threading.Event())
        executor = self._computing if action == "run" else self._loading
        executor.submit(self._answer, frame, cancelled)

    def _answer(self, frame: Frame, cancelled: threading.Event) -> None:
        header = frame.header
        waited = time.monotonic() - header["sent"]
        call = Call(frame.payload, header, cancelled, waited, self._reporter(header))
        action: Callable[[Call], bytes] = getattr(self._host, f"do_{header['action']}")
        try:
            answer = Frame({"id": header["id"]}, action(call))
        except Exception as error:
            status = to_status(error)
            incident = incident_of(status)
            if incident is not None:
                logger.exception("incident", incident=incident, method=header.get("method"), model=header.get("key"))
            answer = Frame({"id": header["id"], "failed": True}, status.SerializeToString())
        self._cancelled.pop(header["id"], None)
        self._send(answer)

    def _reporter(self, header: Mapping[str, Any]) -> Callable[[int, int], None]:
        """What tells the front process of progress, now and then; nothing if it did not ask."""
        last = 0.0

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _REPORT_SECONDS:
                last = now
                self._send(Frame({"id": header["id"], "progress": [done, total]}))

        return report if header.get("reports") else lambda done, total: None

    def _send(self, frame: Frame) -> None:
        with self._sending, contextlib.suppress(ConnectionError):  # the front is gone: the read loop ends us
            for part in pack(frame):
                self._connection.sendall(part)
