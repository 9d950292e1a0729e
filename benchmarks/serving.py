"""A real server in a process of its own, for benchmarks that measure what a caller sees."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        address: ``host:port``.
        pid: of its front process.
        healthy_seconds: from the start of the process to the first health check that said SERVING.
    """

    address: str
    pid: int
    healthy_seconds: float

    def pids(self) -> list[int]:
        """The front process and its workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def memory_bytes(self) -> int:
        """What all its processes hold, shared pages counted once (PSS)."""
        total = 0
        for pid in self.pids():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) * 1024
        return total

    def has_mapped(self, library: str) -> bool:
        """Whether any of its processes has mapped a library with this in its path."""
        return any(library in Path(f"/proc/{pid}/maps").read_text() for pid in self.pids())


def make_repository(folder: Path, models: Mapping[str, Path]) -> Path:
    """Lays models out for a server.

    Args:
        folder: where the repository goes; what one holds already is removed.
        models: name -> a SavedModel's folder or an ONNX file.
    """
    repository = folder / "repository"
    # Models that an earlier run left would be served, too.
    shutil.rmtree(repository, ignore_errors=True)
    for name, source in models.items():
        version = repository / name / "1"
        if source.is_dir():
            shutil.copytree(source, version)
        else:
            version.mkdir(parents=True)
            shutil.copy(source, version / "model.onnx")
    return repository


@contextmanager
def serving(repository: Path) -> Iterator[Served]:
    """Runs a server on a repository; yields once all models are loaded."""
    command = [sys.executable, "-m", "sidelight_service.cli", "serve", "--models", str(repository)]
    began = time.monotonic()
    process = subprocess.Popen([*command, "--address", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
    try:
        address = _address(process)
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60)
            healthy = time.monotonic() - began
            ready = health_pb2.HealthCheckRequest(service="readiness")
            while health.Check(ready, timeout=60).status != health_pb2.HealthCheckResponse.SERVING:
                time.sleep(0.05)
        yield Served(address, process.pid, healthy)
    finally:
        process.terminate()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    if process.stderr is None:
        raise RuntimeError("the server has no pipe")
    for text in process.stderr:
        line = json.loads(text)
        if line["event"] == "serving":
            return str(line["addresses"][0])
    raise RuntimeError("the server ended before it listened")
