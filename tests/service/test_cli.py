"""The command line, against a fake server in this process and, once, against a real one."""

from __future__ import annotations

import importlib
import json
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
from google.rpc import error_details_pb2
from grpc import StatusCode
from serving import FEATURES, put_model
from sidelight.v1 import linearity_pb2, model_pb2
from sidelight_service.cli import app
from sidelight_service.settings import Settings
from typer.testing import CliRunner

X = np.random.default_rng(0).random((5, 4), dtype=np.float32)


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
    return tmp_path / "x.npy"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "240"})


def explain(x: Path, *arguments: object) -> Any:
    return run("explain", "linearity", "--model", "digits", "--input", x, *arguments)


def help_of(*command: str) -> str:
    """The help of a command, on one line and without frames."""
    return " ".join(re.sub(r"[│─╭╮╰╯]", " ", run(*command, "--help").stdout).split())


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("serve",),
        ("demo",),
        ("models",),
        ("models", "show"),
        ("jobs",),
        ("jobs", "watch"),
        ("explain", "linearity"),
        ("explain", "activation-pattern"),
        ("report",),
        ("explain", "similarity"),
        ("index",),
        ("index", "build"),
    ],
)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    done = run(*command, "--help")

    assert done.exit_code == 0
    assert "Usage" in done.stdout


def test_the_version_is_shown() -> None:
    assert re.fullmatch(r"sidelight \d+\.\d+\.\d+\S*\n", run("--version").stdout)


def test_help_answers_without_loading_what_commands_need() -> None:
    heavy = ["tensorflow", "onnx", "onnxruntime", "matplotlib", "numpy", "grpc", "pydantic_settings", "keras", "jinja2"]
    program = f"import sys, sidelight_service.cli; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("--address", "addresses"),
        ("--mode", "mode"),
        ("--version-policy", "version_policy"),
        ("--workers", "workers"),
        ("--queue-limit", "queue_limit"),
        ("--max-message-mebibytes", "max_message_mebibytes"),
        ("--drain-seconds", "drain_seconds"),
        ("--log-format", "log_format"),
        ("--log-level", "log_level"),
    ],
)
def test_the_help_of_serve_states_the_defaults_of_the_settings(option: str, field: str) -> None:
    default = Settings.model_fields[field].default
    default = default[0] if isinstance(default, tuple) else getattr(default, "value", default)
    written = f"{default:g}" if isinstance(default, float) else str(default)

    described = help_of("serve").split(f"{option} ")[1].split(" --")[0]

    assert re.search(rf"Default: {re.escape(written)}\b", described)


def test_every_option_of_serve_is_a_setting(x: Path) -> None:
    options = set(re.findall(r"--([a-z-]+)", help_of("serve"))) - {"help"}

    assert {
        option.replace("-", "_").replace("address", "addresses") for option in options
    } <= Settings.model_fields.keys()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "--models (or SIDELIGHT_MODELS): Field required"),
        (("--models", "/nowhere"), "/nowhere is not a directory"),
        (("--models", ".", "--workers", "0"), "--workers (or SIDELIGHT_WORKERS)"),
        (("--models", ".", "--version-policy", "newest"), "'newest' is not a version policy"),
    ],
)
def test_serve_names_the_option_that_is_wrong(arguments: tuple[str, ...], complaint: str) -> None:
    done = run("serve", *arguments)

    assert done.exit_code == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.output


def test_linearity_prints_a_line_per_layer_with_the_output_last(fake: Any, x: Path) -> None:
    done = explain(x, "--layers", "all", "--feature-range", "0,1", "--confidence", "0.9")

    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line]
    assert [line.split()[0] for line in lines[1:4]] == ["conv_1", "relu_1", "softmax"]
    assert "mean 90% interval" in lines[0]
    assert lines[1].endswith("affine")
    assert "output" in lines[3]
    assert "digits:3, 5 rows of 20 samples (grid, global), onnx-runtime" in lines[4]
    assert "FEATURE_RANGE_EMPTY" in done.stderr
    assert "No feature range" not in done.stderr


def test_every_option_of_linearity_reaches_the_server(fake: Any, x: Path) -> None:
    done = explain(
        x,
        *(
            "--samples",
            7,
            "--aggregate",
            "pairwise",
            "--seed",
            3,
            "--draws",
            "mersenne-twister",
            "--feature-range",
            "-1,1",
        ),
        *("--epsilon", 0.1, "--resolution", 50, "--clip", "--confidence", 0.5, "--runtime", "tensorflow"),
        *(
            "--output",
            "o",
            "--model-type",
            "classifier",
            "--classifier-scale",
            "exact-log-probability",
            "--layers",
            "a,b",
        ),
    )

    assert done.exit_code == 0, done.output
    (request,) = fake.requests
    assert request.parameters == linearity_pb2.LinearityParameters(
        grid=linearity_pb2.GridSampling(
            feature_range=linearity_pb2.FeatureRange(uniform=linearity_pb2.UniformRange(minimum=-1, maximum=1)),
            epsilon=0.1,
            resolution=50,
            clip=True,
        ),
        samples=7,
        aggregation=linearity_pb2.AGGREGATION_PAIRWISE,
        layers={"names": ["a", "b"]},
        output="o",
        model_type=linearity_pb2.MODEL_TYPE_CLASSIFIER,
        classifier_scale=linearity_pb2.CLASSIFIER_SCALE_EXACT_LOG_PROBABILITY,
        draws=linearity_pb2.RandomDraws(seed=3, generator=linearity_pb2.DRAW_GENERATOR_MERSENNE_TWISTER),
        confidence_level=0.5,
        runtime=model_pb2.RUNTIME_TENSORFLOW,
    )


def test_what_is_left_out_is_left_to_the_server(fake: Any, x: Path) -> None:
    explain(x, "--feature-range", "0,1")

    assert {field.name for field, _ in fake.requests[0].parameters.ListFields()} == {"grid"}


def test_json_is_all_there_is_on_standard_output(fake: Any, x: Path) -> None:
    done = explain(x, "--json", "--layers", "all")

    result = json.loads(done.stdout)
    assert [layer["name"] for layer in result["layers"]] == ["softmax", "conv_1", "relu_1"]
    assert len(result["layers"][0]["linearity"]) == 5
    assert result["provenance"]["digest"].startswith("sha256:")


def test_a_range_taken_from_the_input_is_said_so(fake: Any, x: Path) -> None:
    done = explain(x)

    assert "taking the least and greatest value of each feature over the 5 rows" in done.stderr
    per_feature = fake.requests[0].parameters.grid.feature_range.per_feature
    assert np.frombuffer(per_feature.minimum.raw, np.float32).tolist() == X.min(axis=0).tolist()


def test_a_single_row_gives_no_range(fake: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X[:1])

    done = explain(tmp_path / "one.npy")

    assert done.exit_code == 2
    assert "--feature-range MIN,MAX, --range-data FILE or --neighbours FILE" in done.stderr
    assert fake.requests == []


def test_ranges_and_neighbours_come_from_files(fake: Any, x: Path) -> None:
    assert explain(x, "--range-data", x).exit_code == 0
    assert explain(x, "--neighbours", x).exit_code == 0

    assert [request.parameters.WhichOneof("sampling") for request in fake.requests] == ["grid", "knn"]


def test_numbers_and_picture_are_written_to_files(fake: Any, x: Path, tmp_path: Path) -> None:
    for name in ("plot.png", "plot.svg"):
        done = explain(
            x, "--layers", "all", "--out", tmp_path / "r.npz", "--plot", tmp_path / name, "--confidence", 0.9
        )
        assert done.exit_code == 0, done.output

    assert np.load(tmp_path / "r.npz")["linearity"].shape == (3, 5)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "plot.svg").read_bytes()


def test_named_inputs_come_from_an_npz(fake: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", left=X, right=X)
    np.savez(tmp_path / "one.npz", whatever=X)

    explain(tmp_path / "two.npz", "--feature-range", "0,1")
    explain(tmp_path / "one.npz", "--feature-range", "0,1")

    names = [[named.name for named in request.instances.inline.inputs] for request in fake.requests]
    assert names == [["left", "right"], [""]]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--feature-range", "0"), "write MIN,MAX"),
        (("--feature-range", "0,1", "--plot", "/tmp/plot.jpg"), "neither in .png nor in .svg"),
        (("--feature-range", "0,1", "--out", "/nowhere/r.npz"), "there is no directory /nowhere"),
        (("--aggregate", "mean"), "'global', 'pairwise'"),
        (("--feature-range", "0,1", "--range-data", "{x}"), "exclude each other"),
        (("--range-data", "/nowhere.npy"), "does not exist"),
    ],
)
def test_a_wrong_call_ends_with_status_two_before_anything_is_sent(
    fake: Any, x: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    done = explain(x, *(argument.format(x=x) for argument in arguments))

    assert done.exit_code == 2
    assert complaint in " ".join(done.stderr.replace("│", " ").split())
    assert fake.requests == []


@pytest.mark.parametrize("content", [b"", b"1,2,3\n", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_file_that_is_no_array_is_refused(fake: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)

    done = explain(tmp_path / "x.npy", "--feature-range", "0,1")

    assert done.exit_code == 2
    assert "numpy.save" in done.stderr
    assert not isinstance(done.exception, (ValueError, OSError))


def test_files_are_never_unpickled(fake: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)

    done = explain(tmp_path / "x.npy", "--feature-range", "0,1")

    assert done.exit_code == 2
    assert "numpy.save" in done.stderr


def test_a_refusal_of_the_server_says_what_to_do(fake: Any, fakes: Any, x: Path) -> None:
    layer = error_details_pb2.ErrorInfo(domain="sidelight", reason="UNKNOWN_LAYER")
    missing = error_details_pb2.ErrorInfo(domain="sidelight", reason="MODEL_NOT_FOUND")
    fake.failures = [
        fakes.Failure(StatusCode.INVALID_ARGUMENT, "no layer 'conv1'; did you mean 'conv_1'?", (layer,)),
        fakes.Failure(StatusCode.NOT_FOUND, "no model 'digits' in the repository", (missing,)),
    ]

    wrong, failed = (explain(x, "--feature-range", "0,1") for _ in range(2))

    assert (wrong.exit_code, wrong.stderr) == (2, "sidelight: no layer 'conv1'; did you mean 'conv_1'?\n")
    assert (failed.exit_code, failed.stderr) == (1, "sidelight: no model 'digits' in the repository\n")
    assert wrong.stdout == failed.stdout == ""


def test_a_server_that_does_not_answer_is_named(x: Path) -> None:
    done = explain(x, "--feature-range", "0,1", "--server", "localhost:1", "--timeout", "5")

    assert done.exit_code == 1
    assert "no answer from a Sidelight server at localhost:1" in done.stderr


def test_models_are_listed_with_what_is_wrong_with_them(fake: Any, fakes: Any) -> None:
    error = model_pb2.ModelError(reason="MODEL_INVALID", message="not a model")
    failed = model_pb2.ModelVersion(version=4, state=model_pb2.MODEL_VERSION_STATE_FAILED, error=error)
    fake.pages = [[model_pb2.Model(name="digits", versions=[fakes.digits_detail().status, failed])]]

    done = run("models")
    as_json = json.loads(run("models", "--json").stdout)

    assert done.exit_code == 0
    assert re.search(r"digits +3 +available +onnx +stable +46\.9 KiB +sha256:aaaa", done.stdout)
    assert "digits:4: not a model" in done.stderr
    assert [version["state"] for version in as_json[0]["versions"]] == ["available", "failed"]


def test_an_empty_repository_is_said_so(fake: Any) -> None:
    assert "no models" in run("models").stderr
    assert json.loads(run("models", "--json").stdout) == []


def test_one_model_is_shown_with_its_layers_and_methods(fake: Any, fakes: Any) -> None:
    fake.detail = fakes.digits_detail()

    done = run("models", "show", "digits:3")
    as_json = json.loads(run("models", "show", "digits:3", "--json").stdout)

    assert fake.requests[0].model == model_pb2.ModelSelector(name="digits", version=3)
    assert re.search(r"conv_1 +Conv +\[\?, 16, 8, 8\] +80 +yes", done.stdout)
    assert "softmax (output)" in done.stdout
    assert "linearity: yes, with onnx-runtime" in done.stdout
    assert "lrp: no: not built yet" in done.stdout
    assert as_json["layers"][0]["name"] == "conv_1"


def test_models_are_loaded_and_unloaded(fake: Any, fakes: Any) -> None:
    fake.detail = fakes.digits_detail()

    assert "digits:3 is available" in run("models", "load", "digits", "--check-gradients").stderr
    assert "digits:3 is unloaded" in run("models", "unload", "digits").stderr


def test_a_real_server_is_started_asked_and_stopped(tmp_path: Path, small_model: onnx.ModelProto) -> None:
    put_model(tmp_path / "models", "small", 1, small_model)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((5, FEATURES), dtype=np.float32))
    address = f"unix:{tmp_path / 'socket'}"
    command = [sys.executable, "-m", "sidelight_service.cli", "serve", "--models", tmp_path / "models"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*command, "--address", address], stdout=log, stderr=log) as server,
    ):
        try:
            _wait_for_model(address)
            done = run(
                *("explain", "linearity", "--server", address, "--model", "small", "--input", tmp_path / "x.npy"),
                *("--layers", "all", "--json"),
            )
        finally:
            server.send_signal(signal.SIGTERM)
        status = server.wait(20)

    assert done.exit_code == 0, done.output
    layers = json.loads(done.stdout)["layers"]
    assert {"dense_1", "relu_1", "dense_2"} <= {layer["name"] for layer in layers}
    assert next(layer for layer in layers if layer["name"] == "dense_1")["zero_reason"] == "affine"
    assert status == 0


def _wait_for_model(address: str) -> None:
    end = time.monotonic() + 60
    with sidelight.connect(address) as client:
        while True:
            try:
                if any(version.available for model in client.models() for version in model.versions):
                    return
            except sidelight.Unavailable:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)
