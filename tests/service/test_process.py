"""The processes of a server: what dies, what comes back, what ends in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import Start, linearity_request, put_model, refusal
from sidelight.v1 import explain_service_pb2_grpc, model_pb2, model_service_pb2, model_service_pb2_grpc

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_killed_worker_fails_its_calls_and_comes_back(
    start: Start, repository: Path, slow_model: onnx.ModelProto
) -> None:
    put_model(repository, "slow", 1, slow_model)
    server = await start("small", "slow")
    running = [server.explain.ExplainLinearity(linearity_request("slow", rows=2000)) for _ in range(2)]
    await asyncio.sleep(0.7)
    (pid,) = server.server.worker_pids

    os.kill(pid, signal.SIGKILL)

    refused = await refusal(running[0])
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "WORKER_LOST")
    assert refused.retry_seconds is not None
    running[1].cancel()
    response = await server.explain.ExplainLinearity(linearity_request("small"), timeout=60)
    assert response.instance_count == 4
    assert server.server.worker_pids != [pid]


async def test_two_workers_explain_at_the_same_time(
    start: Start, repository: Path, slow_model: onnx.ModelProto
) -> None:
    put_model(repository, "slow", 1, slow_model)
    server = await start("small", "slow", workers=2, threads=1)
    async with asyncio.timeout(60):
        while len(server.server.worker_pids) < 2 or not server.server.all_workers_ready:
            await asyncio.sleep(0.02)
    slow = server.explain.ExplainLinearity(linearity_request("slow", rows=2000))
    await asyncio.sleep(0.3)

    response = await server.explain.ExplainLinearity(linearity_request("small"), timeout=10)

    assert response.instance_count == 4
    assert not slow.done()
    slow.cancel()


async def test_health_tells_of_the_server_each_service_and_each_model(start: Start, repository: Path) -> None:
    (repository / "broken" / "1").mkdir(parents=True)
    server = await start("small")
    await server.server.catalogue.settled.wait()
    health = health_pb2_grpc.HealthStub(server.channel)

    async def status(name: str) -> int:
        return (await health.Check(health_pb2.HealthCheckRequest(service=name))).status

    async with asyncio.timeout(10):
        while await status("readiness") != _SERVING:
            await asyncio.sleep(0.02)
    for name in ("", "liveness", "sidelight.v1.ExplainService", "sidelight.v1.ModelService", "models/small"):
        assert await status(name) == _SERVING
    assert await status("models/broken") == _NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await status("models/none")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_hears_of_a_model_that_is_unloaded(start: Start) -> None:
    server = await start("small")
    stream = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest(service="models/small"))
    heard = [(await stream.read()).status]
    while heard[-1] != _SERVING:
        heard.append((await stream.read()).status)

    await server.models.UnloadModel(model_service_pb2.UnloadModelRequest(model=model_pb2.ModelSelector(name="small")))

    assert (await stream.read()).status == _NOT_SERVING
    stream.cancel()


async def test_reflection_lists_the_services_under_both_of_its_names(start: Start) -> None:
    from grpc_reflection.v1alpha import reflection_pb2

    server = await start("small")
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    for name in ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection"):
        call = server.channel.stream_stream(
            f"/{name}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(iter([request]))
        services = {service.name for service in (await call.read()).list_services_response.service}
        assert {"sidelight.v1.ExplainService", "grpc.health.v1.Health"} <= services


@contextmanager
def _served(repository: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, list[dict[str, object]]]]:
    """A server in a process of its own: the process, its address, and its log lines so far."""
    command = [sys.executable, "-m", "sidelight_service.cli", "serve", "--models", str(repository), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[dict[str, object]] = []
    try:
        for line in process.stderr:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "serving":
                break
        addresses = lines[-1]["addresses"]
        assert isinstance(addresses, list)
        yield process, addresses[0], lines
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def _rest_of_log(process: subprocess.Popen[str], lines: list[dict[str, object]]) -> list[dict[str, object]]:
    assert process.stderr is not None
    lines += [json.loads(line) for line in process.stderr]
    return lines


def _until_available(channel: grpc.Channel, name: str) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    for _ in range(600):
        models = stub.ListModels(model_service_pb2.ListModelsRequest(), wait_for_ready=True).models
        states = {m.name: [v.state for v in m.versions] for m in models}
        if model_pb2.MODEL_VERSION_STATE_AVAILABLE in states.get(name, []):
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} did not become available")


def test_sigterm_ends_a_server_in_order_with_exit_code_0(repository: Path) -> None:
    with _served(repository, "--address", "127.0.0.1:0") as (process, address, lines):
        with grpc.insecure_channel(address) as channel:
            _until_available(channel, "small")
            explain_service_pb2_grpc.ExplainServiceStub(channel).ExplainLinearity(linearity_request())
        process.send_signal(signal.SIGTERM)
        log = _rest_of_log(process, lines)

        assert process.wait(30) == 0
        calls = [line for line in log if line["event"] == "call" and line["method"] == "ExplainLinearity"]
        assert [(line["code"], line["model"], line["version"]) for line in calls] == [("OK", "small", 1)]
        assert str(calls[0]["digest"]).startswith("sha256:")


def test_a_call_under_way_ends_before_the_server_does(repository: Path, slow_model: onnx.ModelProto) -> None:
    put_model(repository, "slow", 1, slow_model)
    with _served(repository, "--address", "127.0.0.1:0") as (process, address, _):
        with grpc.insecure_channel(address) as channel:
            _until_available(channel, "slow")
            stub = explain_service_pb2_grpc.ExplainServiceStub(channel)
            running = stub.ExplainLinearity.future(linearity_request("slow", rows=40))
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert running.result(timeout=60).instance_count == 40
        assert process.wait(30) == 0


def test_a_server_listens_on_a_unix_socket(repository: Path, tmp_path: Path) -> None:
    socket = f"unix:{tmp_path}/sidelight.sock"
    with _served(repository, "--address", socket) as (_, address, _), grpc.insecure_channel(address) as channel:
        assert address == socket
        _until_available(channel, "small")


def test_a_taken_port_is_an_error_that_names_it(repository: Path) -> None:
    with _served(repository, "--address", "127.0.0.1:0") as (_, address, _):
        command = [sys.executable, "-m", "sidelight_service.cli", "serve", "--models", str(repository)]
        second = subprocess.run([*command, "--address", address], capture_output=True, text=True, timeout=60)

    assert second.returncode != 0
    assert address in second.stderr
    assert "Traceback" not in second.stderr


def _imported_modules(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def _memory_bytes(pid: int) -> int:
    """Proportional set size: shared pages are counted once over all processes."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))) * 1024


def test_the_front_process_starts_without_what_it_can_leave_to_others() -> None:
    heavy = ["tensorflow", "onnx", "onnxruntime", "pyarrow", "matplotlib", "scipy"]
    program = f"import sys, sidelight_service.server; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads the memory maps of Linux")
def test_onnx_models_without_gradients_need_no_tensorflow_and_little_memory(repository: Path) -> None:
    with _served(repository, "--address", "127.0.0.1:0") as (process, address, _):
        with grpc.insecure_channel(address) as channel:
            _until_available(channel, "small")
            explain_service_pb2_grpc.ExplainServiceStub(channel).ExplainLinearity(linearity_request(rows=100))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        processes = [process.pid, *map(int, children)]

        assert len(processes) == 2
        assert not any("tensorflow" in _imported_modules(pid) for pid in processes)
        assert sum(map(_memory_bytes, processes)) < 300 * 2**20
