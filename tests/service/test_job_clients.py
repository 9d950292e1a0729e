"""Jobs by the Python clients and the command line, against real servers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import sidelight
from job_serving import JobServer, job_server
from serving import FEATURES, dense_network, put_model
from sidelight.jobs import Patience
from sidelight_service.cli import app
from test_process import _served
from typer.testing import CliRunner

X = np.random.default_rng(0).random((60, FEATURES), dtype=np.float32)
OPTIONS: dict[str, Any] = {"layers": "all", "feature_range": (0, 1), "confidence": 0.9}


@pytest.fixture(scope="module")
def steady_model() -> onnx.ModelProto:
    """Some milliseconds per instance."""
    return dense_network([FEATURES, *[256] * 10, 3])


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, small_model: onnx.ModelProto, steady_model: onnx.ModelProto
) -> Iterator[str]:
    """A server in a process of its own."""
    models = tmp_path_factory.mktemp("models")
    put_model(models, "small", 1, small_model)
    put_model(models, "steady", 1, steady_model)
    options = ("--data", str(tmp_path_factory.mktemp("data")), "--address", "127.0.0.1:0")
    with _served(models, *options) as (process, where, _):
        threading.Thread(target=lambda: process.stderr and process.stderr.read(), daemon=True).start()
        with sidelight.connect(where) as client:
            while not all(v.state == "available" for m in client.models() for v in m.versions):
                time.sleep(0.05)
        yield where


@pytest.fixture
def client(address: str) -> Iterator[sidelight.Client]:
    with sidelight.connect(address) as connected:
        yield connected


def _same(one: sidelight.LinearityExplanation, other: sidelight.LinearityExplanation) -> bool:
    return [layer.as_dict() for layer in one.layers] == [layer.as_dict() for layer in other.layers]


def test_a_submitted_job_gives_what_the_call_gives(client: sidelight.Client) -> None:
    seen: list[tuple[int, int]] = []

    job = client.submit_linearity("steady", X, **OPTIONS)

    assert job.state in ("queued", "running")
    assert job.wait(progress=lambda done, total: seen.append((done, total))) is job
    assert (job.state, job.progress.done, job.failure) == ("succeeded", 60, None)
    assert seen[-1] == (60, 60)
    assert _same(job.result(), client.linearity("steady", X, **OPTIONS))


def test_a_job_is_found_by_its_id_and_in_the_list_until_it_is_deleted(client: sidelight.Client) -> None:
    job = client.submit_linearity("small:1", X, feature_range=(0, 1), idempotency_key="once").wait()
    again = client.submit_linearity("small:1", X, feature_range=(0, 1), idempotency_key="once")

    assert again.id == job.id
    assert client.job(job.id).info == job.info
    assert (job.info.kind, job.info.model) == ("linearity", "small:1")
    assert job.info.create_time is not None
    assert job.info.expire_time is not None
    assert job.id in [listed.id for listed in client.jobs(states=["succeeded", "failed"])]
    assert client.jobs(states=["cancelled"]) == ()
    job.delete()
    with pytest.raises(sidelight.NotFound) as gone:
        client.job(job.id)
    assert gone.value.reason == "JOB_NOT_FOUND"


def test_the_result_of_a_failed_job_raises_what_the_call_raises(client: sidelight.Client) -> None:
    options = OPTIONS | {"layers": ["dense_9"]}
    with pytest.raises(sidelight.InvalidArgument) as direct:
        client.linearity("small", X, **options)

    job = client.submit_linearity("small", X, **options).wait()

    assert job.state == "failed"
    with pytest.raises(sidelight.InvalidArgument) as raised:
        job.result()
    assert raised.value.message == direct.value.message
    assert (raised.value.reason, raised.value.metadata) == (direct.value.reason, direct.value.metadata)


def test_a_job_can_be_cancelled_and_then_has_no_result(client: sidelight.Client) -> None:
    job = client.submit_linearity("steady", np.tile(X, (200, 1)), **OPTIONS)
    with pytest.raises(sidelight.FailedPrecondition):
        job.result()
    with pytest.raises(sidelight.DeadlineExceeded):
        job.wait(timeout=0.5)

    assert job.cancel().state == "cancelled"

    assert job.wait().refresh().state == "cancelled"
    with pytest.raises(sidelight.FailedPrecondition):
        job.result()


def test_what_can_not_be_sent_is_refused_before(client: sidelight.Client, address: str) -> None:
    with sidelight.connect(address, max_message_bytes=1000) as narrow, pytest.raises(sidelight.InvalidArgument):
        narrow.submit_linearity("small", X, feature_range=(0, 1))
    with pytest.raises(sidelight.InvalidArgument):
        client.jobs(states=["done"])
    with pytest.raises(TypeError):
        client.submit_linearity("small", X, sample=3)  # type: ignore[call-arg]


async def test_the_asyncio_client_does_the_same(address: str) -> None:
    async with sidelight.connect_async(address) as client:
        job = await client.submit_linearity("steady", X, **OPTIONS)
        seen = [info.state async for info in job.watch()]
        assert seen[-1] == "succeeded"
        assert _same(await (await job.wait()).result(), await client.linearity("steady", X, **OPTIONS))
        assert job.id in [listed.id for listed in await client.jobs(states=["succeeded"])]
        assert (await client.job(job.id)).info == job.info
        await job.delete()
        with pytest.raises(sidelight.NotFound):
            await job.refresh()
        long = await client.submit_linearity("steady", np.tile(X, (200, 1)), **OPTIONS)
        assert (await long.cancel()).state == "cancelled"
        with pytest.raises(sidelight.FailedPrecondition):
            await long.result()


@pytest.fixture
def restarted(tmp_path: Path, steady_model: onnx.ModelProto) -> Any:
    """Starts a server on the same data and address every time it is called."""
    models = tmp_path / "models"
    models.mkdir()
    put_model(models, "steady", 1, steady_model)

    def start(*wait_for: str) -> Any:
        address = f"unix:{tmp_path}/s.sock"
        return job_server(models, tmp_path / "data", *wait_for, addresses=(address,))

    return start


async def test_who_waits_for_a_job_waits_through_a_restart_of_the_server(restarted: Any) -> None:
    async with restarted("steady") as jobs:
        assert isinstance(jobs, JobServer)
        client = sidelight.connect_async(jobs.server.server.addresses[0])
        job = await client.submit_linearity("steady", np.tile(X, (10, 1)), feature_range=(0, 1))
        waiting = asyncio.create_task(job.wait())
        await jobs.until_done(job.id, 30)
    async with restarted():
        assert (await waiting).state == "succeeded"
        assert (await job.result()).instance_count == 600
    await client.close()


def test_a_follower_gives_up_after_a_minute_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("sidelight.jobs.time.monotonic", lambda: now)
    patience = Patience()
    assert patience.failed() == 0.2
    now += 59
    assert patience.failed() == 0.5
    patience.heard()
    now += 59
    assert patience.failed() == 0.2
    now += 61
    assert patience.failed() is None


def run(address: str, *arguments: object) -> Any:
    environment = {"COLUMNS": "240", "SIDELIGHT_SERVER": address}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)


@pytest.fixture
def x(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def _submit(address: str, x: Path, *arguments: object, model: str = "steady") -> Any:
    linearity = ("explain", "linearity", "--model", model, "--input", x, "--feature-range", "0,1", "--job")
    return run(address, *linearity, *arguments)


def test_the_command_line_submits_follows_and_reads_a_job(address: str, x: Path, tmp_path: Path) -> None:
    submitted = _submit(address, x)
    assert submitted.exit_code == 0, submitted.output
    job = submitted.stdout.strip()

    watched = run(address, "jobs", "watch", job, "--json")
    shown = run(address, "jobs", "show", job)
    result = run(address, "jobs", "result", job, "--out", tmp_path / "r.npz", "--plot", tmp_path / "r.svg")
    listed = run(address, "jobs", "--state", "succeeded", "--json")

    states = [json.loads(line) for line in watched.stdout.splitlines()]
    assert states[-1]["state"] == "succeeded"
    assert states[-1]["progress"]["done"] == 60
    assert "60 of 60" in shown.stdout
    assert "linearity of steady" in shown.stdout
    assert "kept until" in shown.stdout
    assert "steady:1, 60 rows of 20 samples" in result.stdout
    assert (tmp_path / "r.svg").exists()
    direct = run(address, "explain", "linearity", "--model", "steady", "--input", x, "--feature-range", "0,1", "--json")
    with np.load(tmp_path / "r.npz") as written:
        assert written["linearity"].tolist()[0] == json.loads(direct.stdout)["layers"][0]["linearity"]
    assert job in [entry["id"] for entry in json.loads(listed.stdout)]
    assert job in run(address, "jobs").stdout
    assert run(address, "jobs", "delete", job).exit_code == 0
    assert "JOB_NOT_FOUND" not in run(address, "jobs", "show", job).stdout
    assert run(address, "jobs", "show", job).exit_code == 1


def test_the_command_line_waits_for_a_job_and_shows_its_result(address: str, x: Path) -> None:
    done = _submit(address, x, "--wait", "--json", model="small")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["instance_count"] == 60
    assert done.stderr.startswith("job ")


def test_the_command_line_cancels_a_job_and_tells_why_one_failed(address: str, x: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "long.npy", np.tile(X, (200, 1)))
    long = _submit(address, tmp_path / "long.npy").stdout.strip()
    failing = _submit(address, x, "--layers", "dense_9", model="small").stdout.strip()

    cancelled = run(address, "jobs", "cancel", long)
    watched = run(address, "jobs", "watch", failing)

    assert f"job {long} cancelled" in cancelled.stderr
    assert watched.exit_code == 1
    assert "dense_9" in watched.stderr
    assert "UNKNOWN_LAYER" in run(address, "jobs", "show", failing).stdout
    failure = json.loads(run(address, "jobs", "show", failing, "--json").stdout)["failure"]
    assert failure["code"] == "INVALID_ARGUMENT"
    assert run(address, "jobs", "result", failing).exit_code == 2
    assert run(address, "jobs", "watch", long).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--wait",), "--wait: goes with --job"),
        (("--job", "--out", "r.npz"), "a job has no result yet"),
    ],
)
def test_options_that_do_not_go_together_are_refused(x: Path, arguments: tuple[str, ...], complaint: str) -> None:
    done = run("localhost:1", "explain", "linearity", "--model", "m", "--input", x, *arguments)

    assert done.exit_code == 2
    assert complaint in done.stderr
