"""The Go and TypeScript programs hold the same conversation with a real server, and print the same.

`make clients` builds the programs and says where they are; without that there is nothing to test here.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import TensorProto, helper, numpy_helper

LANGUAGES = ("GO", "TYPESCRIPT")
FEATURES, HIDDEN, CLASSES = 6, 8, 3
READY_SECONDS = 120
PROGRAM_SECONDS = 90


@dataclass(frozen=True)
class Outcome:
    """What a program came to."""

    code: int
    stdout: str
    stderr: str

    def rows(self) -> dict[str, tuple[float, float, str]]:
        """The profile: layer -> linearity, deviation, note."""
        lines = iter(self.stdout.splitlines())
        for line in lines:
            if line.split() == ["LAYER", "LINEARITY", "DEVIATION", "NOTE"]:
                break
        rows = {}
        for line in lines:
            layer, linearity, deviation, *note = line.split(maxsplit=3)
            rows[layer] = (float(linearity), float(deviation), " ".join(note).strip())
        return rows


def small_network() -> onnx.ModelProto:
    """Dense, ReLU, dense, softmax, over six features."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(FEATURES, HIDDEN)),
        "b1": random.normal(size=HIDDEN),
        "w2": random.normal(size=(HIDDEN, CLASSES)),
        "b2": random.normal(size=CLASSES),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["dense_1"], name="dense_1"),
            helper.make_node("Relu", ["dense_1"], ["relu_1"], name="relu_1"),
            helper.make_node("Gemm", ["relu_1", "w2", "b2"], ["dense_2"], name="dense_2"),
            helper.make_node("Softmax", ["dense_2"], ["probabilities"], name="softmax", axis=-1),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            if server.poll() is not None:
                pytest.fail(f"the server ended with {server.returncode}:\n{log.read_text()}")
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(service="readiness"), timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass
            if time.monotonic() > end:
                pytest.fail(f"the server was not ready after {READY_SECONDS} s:\n{log.read_text()}")
            time.sleep(0.2)


@pytest.fixture(scope="module")
def programs() -> dict[str, list[str]]:
    """Language -> the command that runs its program."""
    paths = {language: os.environ.get(f"CLIENT_PROGRAM_{language}") for language in LANGUAGES}
    if not all(paths.values()):
        pytest.skip("the client programs are not built; run `make clients`")
    return {"GO": [str(paths["GO"])], "TYPESCRIPT": ["node", str(paths["TYPESCRIPT"])]}


@pytest.fixture(scope="module")
def address(programs: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server with the model `small` listens."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "models" / "small" / "3").mkdir(parents=True)
    onnx.save(small_network(), str(folder / "models" / "small" / "3" / "model.onnx"))
    address = f"127.0.0.1:{free_port()}"
    log = folder / "server.log"
    sidelight = Path(sys.executable).with_name("sidelight")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [str(sidelight), "serve", "--models", str(folder / "models"), "--address", address],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(address, server, log)
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            pytest.fail(f"the server did not stop within 30 s of SIGTERM:\n{log.read_text()}")


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three instances, as a file of raw little-endian float32."""
    path = tmp_path_factory.mktemp("instances") / "instances.bin"
    path.write_bytes(np.random.default_rng(1).random((3, FEATURES)).astype("<f4").tobytes())
    return path


def run(program: list[str], *args: str) -> Outcome:
    done = subprocess.run(
        [*program, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROGRAM_SECONDS
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("language", LANGUAGES)
def test_models_are_listed_with_version_and_state(language: str, programs: dict[str, list[str]], address: str) -> None:
    outcome = run(programs[language], "--address", address)
    assert outcome.code == 0, outcome.stderr
    assert ["small", "3", "AVAILABLE", "ONNX"] in [line.split() for line in outcome.stdout.splitlines()]


def test_both_programs_print_the_same_profile(programs: dict[str, list[str]], address: str, instances: Path) -> None:
    args = ("--address", address, "--model", "small", "--input", str(instances), "--samples", "50", "--seed", "5")
    go, typescript = run(programs["GO"], *args), run(programs["TYPESCRIPT"], *args)
    assert go.code == 0, go.stderr
    assert typescript.code == 0, typescript.stderr
    profile = go.rows()
    assert profile == typescript.rows()
    assert next(iter(profile)) == "softmax"
    # The first layer is affine in the input; what follows the ReLU is not.
    assert profile["dense_1"] == (0.0, 0.0, "affine")
    assert profile["softmax"][0] > 0
    assert profile["relu_1"][0] > 0


def test_both_programs_make_the_same_built_in_instance(programs: dict[str, list[str]], address: str) -> None:
    args = ("--address", address, "--model", "small", "--samples", "50")
    assert run(programs["GO"], *args).rows() == run(programs["TYPESCRIPT"], *args).rows()


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_unknown_model_is_named_with_its_reason(language: str, programs: dict[str, list[str]], address: str) -> None:
    outcome = run(programs[language], "--address", address, "--model", "absent")
    assert outcome.code == 1
    assert "reason: MODEL_NOT_FOUND (sidelight)" in outcome.stderr
    assert "  model: absent" in outcome.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_wrong_field_is_named_by_its_path(language: str, programs: dict[str, list[str]], address: str) -> None:
    outcome = run(programs[language], "--address", address, "--model", "small", "--samples", "1")
    assert outcome.code == 1
    assert "reason: INVALID_FIELD (sidelight)" in outcome.stderr
    assert "field: parameters.samples: " in outcome.stderr
