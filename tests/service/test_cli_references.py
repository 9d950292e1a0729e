"""Reference sets from the command line: against a fake server, and against a real one that is killed."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import sidelight
import sidelight.arrays
from serving import CLASSES, FEATURES, put_model
from sidelight.v1 import reference_pb2
from sidelight_service.cli import app
from typer.testing import CliRunner

X = np.random.default_rng(0).random((30, FEATURES), dtype=np.float32)
Y = np.arange(30) % CLASSES


@pytest.fixture(scope="session")
def fakes() -> Any:
    """The fake server's module, which lives with the tests of the client."""
    sys.path.append(str(Path(__file__).parents[1] / "clients" / "python"))
    return importlib.import_module("fake_server")


@pytest.fixture
def fake(fakes: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with fakes.serving() as server:
        monkeypatch.setenv("SIDELIGHT_SERVER", server.address)
        yield server


@pytest.fixture
def x(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path / "x.npy"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "240"})


def test_sets_are_listed_and_shown(fake: Any, fakes: Any) -> None:
    fake.references = [fakes.reference_set("digits")]

    listed, shown = run("references"), run("references", "show", "digits")
    as_json = [json.loads(run("references", *more, "--json").stdout) for more in ((), ("show", "digits"))]

    assert re.search(
        r"digits +1,500 +float32 \[8, 8, 1\] +2 classes +375\.5 KiB +2026-01-02 03:04 +sha256:bbb", listed.stdout
    )
    assert re.search(r"classes +0: 1,000, 1: 500", shown.stdout)
    assert re.search(r"inputs +float32 \[8, 8, 1\], 0 to 1", shown.stdout)
    assert as_json[0] == [as_json[1]]
    assert as_json[1]["class_counts"] == {"0": 1000, "1": 500}


def test_the_range_of_each_feature_is_written_to_a_file(fake: Any, fakes: Any, tmp_path: Path) -> None:
    held = fakes.reference_set("digits")
    least, greatest = X[:1].reshape(-1)[:6], X[1:2].reshape(-1)[:6]
    held.inputs[0].feature_minimum.CopyFrom(sidelight.arrays.to_tensor(least, "x"))
    held.inputs[0].feature_maximum.CopyFrom(sidelight.arrays.to_tensor(greatest, "x"))
    fake.references = [held]

    done = run("references", "show", "digits", "--feature-ranges", tmp_path / "ranges.npz")

    assert done.exit_code == 0
    with np.load(tmp_path / "ranges.npz") as written:
        assert written["minimum"].tolist() == least.tolist()
        assert written["maximum"].tolist() == greatest.tolist()
    assert run("references", "show", "digits", "--feature-ranges", tmp_path / "none" / "r.npz").exit_code != 0


def test_no_sets_are_said_so(fake: Any) -> None:
    assert "no reference sets" in run("references").stderr
    assert json.loads(run("references", "--json").stdout) == []


def test_a_set_is_created_of_files_imported_and_deleted(fake: Any, x: Path) -> None:
    created = run("references", "create", "digits", "--input", x, "--labels", x.with_name("y.npy"), "--model", "small")
    imported = run("references", "import", "train", "a/b.npz", "--inputs-key", "images", "--labels-key", "-")
    deleted = run("references", "delete", "digits")

    assert (created.exit_code, imported.exit_code, deleted.exit_code) == (0, 0, 0), created.output
    upload, order, deletion = fake.requests
    assert (upload[0].header.name, upload[0].header.model, upload[-1].trailer.count) == ("digits", "small", 30)
    assert upload[1].chunk.labels.shape == [30]
    assert (order.name, order.path, order.inputs_key, order.labels_key) == ("train", "a/b.npz", "images", "-")
    assert deletion.name == "digits"
    assert "digits is deleted" in deleted.stderr


def test_rows_range_and_neighbours_of_linearity_come_from_sets(fake: Any) -> None:
    explain = ("explain", "linearity", "--model", "digits", "--reference", "train")

    alone = run(*explain)
    chosen = run(
        *(*explain, "--indices", "4,2", "--classes", "1,0", "--by-prediction", "--sample", 5, "--sample-seed", 7),
        *("--range-reference", "ranges"),
    )
    nearest = run(*explain, "--neighbours-reference", "others")

    assert (alone.exit_code, chosen.exit_code, nearest.exit_code) == (0, 0, 0), alone.output + chosen.output
    assert "over all of train" in alone.stderr
    first, second, third = fake.requests
    everything = reference_pb2.ReferenceSelection(reference="train")
    assert first.instances.reference == everything
    assert first.parameters.grid.feature_range.data.reference == everything
    assert second.instances.reference == reference_pb2.ReferenceSelection(
        reference="train",
        indices=[4, 2],
        class_filter=reference_pb2.ClassFilter(classes=[1, 0], source=reference_pb2.CLASS_SOURCE_PREDICTION),
        sample=reference_pb2.ReferenceSample(count=5, seed=7),
    )
    assert second.parameters.grid.feature_range.data.reference.reference == "ranges"
    assert third.parameters.knn.data.reference.reference == "others"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "either --input FILE or --reference NAME"),
        (("--input", "{x}", "--reference", "r"), "either --input FILE or --reference NAME"),
        (("--input", "{x}", "--indices", "1"), "--indices selects of a reference set"),
        (("--input", "{x}", "--sample", "1"), "--sample selects of a reference set"),
        (("--reference", "r", "--indices", "1;2"), "no list of whole numbers"),
        (("--reference", "r", "--by-prediction"), "give --classes"),
        (("--reference", "r", "--range-data", "{x}", "--range-reference", "r"), "exclude each other"),
        (("--reference", "r", "--neighbours", "{x}", "--neighbours-reference", "r"), "exclude each other"),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_sent(
    fake: Any, x: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    done = run("explain", "linearity", "--model", "digits", *(argument.format(x=x) for argument in arguments))

    assert done.exit_code == 2
    assert complaint in " ".join(done.stderr.split())
    assert fake.requests == []


@pytest.mark.parametrize("command", [(), ("show",), ("create",), ("import",), ("delete",)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    assert "Usage" in run("references", *command, "--help").stdout


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server in a process of its own, up."""
    address = f"unix:{folder / 'socket'}"
    command = [sys.executable, "-m", "sidelight_service.cli", "serve", "--models", folder / "models"]
    command += ["--data", folder / "data", "--import-directory", folder, "--address", address]
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            with sidelight.connect(address) as client:
                _wait_for_model(client)
            yield server, address
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
            server.wait(20)


def _wait_for_model(client: sidelight.Client) -> None:
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(sidelight.Unavailable):
            if any(version.available for model in client.models() for version in model.versions):
                return
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_server_comes_back_with_its_sets_and_without_half_ones(
    tmp_path: Path, x: Path, small_model: onnx.ModelProto
) -> None:
    put_model(tmp_path / "models", "small", 1, small_model)
    staging = tmp_path / "data" / "references" / "staging"
    with served(tmp_path) as (server, address), sidelight.connect(address) as client:

        def endless() -> Iterator[Any]:
            yield X
            while not list(staging.glob("*/input_0.npy")):
                time.sleep(0.01)
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            yield X

        created = run(
            *("references", "create", "digits", "--input", x, "--labels", x.with_name("y.npy"), "--model", "small"),
            *("--server", address),
        )
        with pytest.raises(sidelight.SidelightError):
            client.create_reference("half", endless(), timeout=20)
    assert created.exit_code == 0, created.output
    assert len(list(staging.iterdir())) == 1

    with served(tmp_path) as (_, address):
        listed = json.loads(run("references", "--json", "--server", address).stdout)
        swept = list(staging.iterdir())
        by_set, by_file = (
            run("explain", "linearity", "--server", address, "--model", "small", "--json", *rows)
            for rows in (("--reference", "digits"), ("--input", x))
        )
        imported = run("references", "import", "again", "x.npy", "--labels-key", "y.npy", "--server", address, "--json")
        refused = run("references", "create", "digits", "--input", x, "--server", address)
        deleted = [run("references", "delete", name, "--server", address).exit_code for name in ("digits", "again")]

    assert [reference["name"] for reference in listed] == ["digits"]
    assert swept == []
    assert by_set.exit_code == by_file.exit_code == 0, by_set.output
    assert json.loads(by_set.stdout)["layers"] == json.loads(by_file.stdout)["layers"]
    assert json.loads(imported.stdout)["digest"] == listed[0]["digest"]
    assert (refused.exit_code, "never overwritten" in refused.stderr) == (1, True)
    assert deleted == [0, 0]
