"""Step two: a server of its own, started as anybody would start it, and stopped in the end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidelight_service.demo.stage import DemoFailed, heading, say

_START_SECONDS = 120.0
_STOP_SECONDS = 40.0


@contextmanager
def running_server(repository: Path, data: Path, log: Path) -> Iterator[str]:
    """Runs a server in a process of its own.

    Args:
        repository: the models to serve.
        data: where the server keeps reference sets and jobs.
        log: where its log goes.

    Yields:
        Its address, once it is healthy and has loaded every model.

    Raises:
        DemoFailed: it ended, or was not ready in two minutes.
    """
    heading("Starting the server")
    address = f"localhost:{_free_port()}"
    command = [
        sys.executable,
        "-m",
        "sidelight_service.cli",
        "serve",
        "--models",
        str(repository),
        "--data",
        str(data),
        "--address",
        address,
    ]
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        _wait_until_ready(process, address, log, started + _START_SECONDS)
        say(f"serves at {address} after {time.monotonic() - started:.1f} s; its log is {log}")
        yield address
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path, end: float) -> None:
    import grpc
    import sidelight
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel, sidelight.connect(address) as client:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < end:
            if process.poll() is not None:
                raise DemoFailed(f"the server ended with status {process.returncode}; its last words:\n{_tail(log)}")
            try:
                request = health_pb2.HealthCheckRequest(service="readiness")
                answer = health.Check(request, timeout=5, wait_for_ready=True)
            except grpc.RpcError:
                continue
            if answer.status != health_pb2.HealthCheckResponse.SERVING:
                time.sleep(0.1)
                continue
            for version in (version for model in client.models(timeout=5) for version in model.versions):
                if version.error is not None:
                    raise DemoFailed(f"the server could not load a model: {version.error.message}")
            return
    raise DemoFailed(f"the server was not ready after {_START_SECONDS:.0f} s; its last words:\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])
