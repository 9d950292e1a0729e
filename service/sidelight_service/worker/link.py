"""One compute worker as the front process sees it: a child process and the calls it is working on."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from google.rpc import status_pb2

from sidelight_service.errors import WorkerLost
from sidelight_service.status import Failure
from sidelight_service.worker.frames import Frame, pack, read_async

logger = structlog.get_logger(__name__)

_STOP_SECONDS = 5.0
_STANDARD_ERROR = 2
_KEPT_LINES = 20
_LONGEST_LINE = 1 << 16

ProgressListener = Callable[[int, int], None]
"""What is told (units done, units in all)."""


class WorkerLink:
    """A running worker process.

    Calls may be made from one event loop only. Once the process has died, every call under way and every
    later one raises WorkerLost.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._listeners: dict[int, ProgressListener] = {}
        self._lost = False
        self._output: deque[str] = deque(maxlen=_KEPT_LINES)
        self._receiving = asyncio.create_task(self._receive())
        self._listening = asyncio.create_task(self._listen())
        self._ended = asyncio.Event()

    @classmethod
    async def start(cls, options: Mapping[str, Any]) -> WorkerLink:
        """Starts a worker process.

        Args:
            options: what the worker's Options take.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sidelight_service.worker",
                str(theirs.fileno()),
                json.dumps(options),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                # Its log lines go where ours go. What native libraries write is no log line: we read that.
                stdout=_STANDARD_ERROR,
                stderr=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
                # A Ctrl-C at the terminal is for the front process, which then ends its workers in order.
                start_new_session=True,
            )
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def last_output(self) -> list[str]:
        """The last lines that native libraries wrote: after a death, often the reason."""
        return list(self._output)

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        return not self._lost

    async def wait_ended(self) -> int:
        """Waits for the process to end; its exit code."""
        await self._ended.wait()
        return await self._process.wait()

    def begin(
        self, action: str, payload: bytes = b"", *, on_progress: ProgressListener | None = None, **header: Any
    ) -> tuple[int, asyncio.Future[bytes]]:
        """Sends a call.

        Args:
            action: what to do; see Host.
            payload: the serialized message that goes with it.
            on_progress: told (units done, units in all) now and then until the answer comes.
            header: the plain arguments that go with it.

        Returns:
            The id of the call and the payload of its answer to come.

        Raises:
            WorkerLost: the worker is gone.
        """
        if self._lost:
            raise WorkerLost("the compute worker is gone and being restarted; retry")
        call = next(self._ids)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[call] = answer
        if on_progress is not None:
            self._listeners[call] = on_progress
            header["reports"] = True
        self._send(Frame({"id": call, "action": action, "sent": time.monotonic(), **header}, payload))
        return call, answer

    async def call(self, action: str, payload: bytes = b"", **header: Any) -> bytes:
        """Sends a call and waits for its answer.

        Raises:
            WorkerLost: the worker died before it answered.
            Failure: the worker answered with an error.
        """
        return await self.begin(action, payload, **header)[1]

    def cancel(self, call: int) -> None:
        """Tells the worker to stop a call; its answer still comes, and no more of its progress."""
        self._listeners.pop(call, None)
        if not self._lost:
            self._send(Frame({"id": call, "action": "cancel"}))

    async def stop(self) -> None:
        """Ends the process: asks it, then kills it."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._receiving
        await self._listening

    def _send(self, frame: Frame) -> None:
        head, payload = pack(frame)
        self._writer.write(head)
        if payload:
            self._writer.write(payload)

    async def _listen(self) -> None:
        stream = self._process.stderr
        while stream is not None:
            try:
                line = (await stream.readuntil()).decode(errors="replace").rstrip()
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                line = (await stream.readexactly(_LONGEST_LINE)).decode(errors="replace")
            self._output.append(line)
            logger.debug("worker output", pid=self.pid, line=line)

    async def _receive(self) -> None:
        try:
            while True:
                self._settle(await read_async(self._reader))
        except (EOFError, ConnectionError):
            pass  # the process has closed its end: it is dying or dead
        self._lost = True
        code = await self._process.wait()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(WorkerLost(f"the compute worker died during the call ({_death(code)}); retry"))
        self._calls.clear()
        self._listeners.clear()
        self._writer.close()
        self._ended.set()

    def _settle(self, frame: Frame) -> None:
        progress = frame.header.get("progress")
        if progress is not None:
            listener = self._listeners.get(frame.header["id"])
            if listener is not None:
                listener(*progress)
            return
        self._listeners.pop(frame.header["id"], None)
        answer = self._calls.pop(frame.header["id"], None)
        if answer is None or answer.done():
            return
        if frame.header.get("failed"):
            answer.set_exception(Failure(status_pb2.Status.FromString(frame.payload)))
        else:
            answer.set_result(frame.payload)


def _death(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
