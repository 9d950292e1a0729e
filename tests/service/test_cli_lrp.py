"""``sidelight explain lrp`` against a fake server, and ``sidelight models check`` without one."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from serving import dense_network
from sidelight.v1 import lrp_pb2
from sidelight_service.cli import app
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
    return run("explain", "lrp", "--model", "digits", "--input", x, *arguments)


def test_a_line_per_explanation_and_per_layer_of_the_ledger_is_printed(fake: Any, x: Path) -> None:
    done = explain(x, "--target", "3,5")

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len([line for line in lines if re.match(r" +\d+ +[35] ", line)]) == 10
    # Of what started, half was handed on and half went to the bias.
    assert re.search(r"^conv_1 +50.00 % +50.00 % +0 +0 +0 +z", done.stdout, re.MULTILINE)
    assert "cut at softmax" in done.stdout


def test_every_option_reaches_the_server(fake: Any, x: Path, tmp_path: Path) -> None:
    rules = [{"op": "Conv", "rule": "gamma", "gamma": 0.5}, {"rule": "flat"}]
    (tmp_path / "rules.json").write_text(json.dumps(rules))

    done = explain(
        *(x, "--rules", tmp_path / "rules.json", "--target", "1", "--output", "logits", "--value", "one"),
        *("--layers", "conv_1,relu_1", "--empty-branch", "renormalise", "--fallback", "gradient"),
        *("--attention", "cp-lrp", "--pixel-flipping", "8", "--random-logit", "--seed", "4", "--input-range", "0,1"),
    )

    assert done.exit_code == 0, done.output
    sent = fake.requests[0].parameters
    assert sent.rules.entries[0].op == "Conv"
    assert sent.rules.otherwise.HasField("flat")
    assert list(sent.target.classes.indices) == [1]
    assert (sent.target.output, sent.target.value) == ("logits", lrp_pb2.TARGET_VALUE_ONE)
    assert list(sent.layers.names) == ["conv_1", "relu_1"]
    assert sent.empty_branch == lrp_pb2.EMPTY_BRANCH_POLICY_RENORMALISE
    assert sent.fallback == lrp_pb2.LRP_FALLBACK_GRADIENT
    assert sent.attention == lrp_pb2.ATTENTION_RULE_CP_LRP
    assert (sent.quality.pixel_flipping_steps, sent.quality.random_logit, sent.quality.seed) == (8, True, 4)
    assert sent.HasField("input_minimum")


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("--preset", "EpsilonPlusFlat"), "preset", lrp_pb2.LRP_PRESET_EPSILON_PLUS_FLAT),
        (("--rule", "alpha-beta,alpha=2,ignore-bias"), "rules", None),
        (("--gradient", "integrated-gradients", "--samples", "8"), "gradient", None),
    ],
)
def test_one_way_of_three_decides_the_method(
    fake: Any, x: Path, arguments: tuple[str, ...], field: str, value: object
) -> None:
    done = explain(x, *arguments)

    assert done.exit_code == 0, done.output
    sent = fake.requests[0].parameters
    assert sent.WhichOneof("method") == field
    assert value is None or getattr(sent, field) == value


def test_the_numbers_of_a_rule_may_be_options_of_their_own(fake: Any, x: Path) -> None:
    assert explain(x, "--rule", "alpha-beta", "--alpha", "3", "--beta", "2", "--epsilon", "0.01").exit_code == 0
    assert explain(x, "--rule", "alpha-beta,alpha=3,beta=2,epsilon=0.01").exit_code == 0

    apart, together = (request.parameters.rules.otherwise for request in fake.requests)
    assert apart == together
    assert (apart.alpha_beta.alpha, apart.alpha_beta.beta) == (3, 2)


def test_what_is_left_out_is_left_to_the_server(fake: Any, x: Path) -> None:
    assert explain(x).exit_code == 0
    assert fake.requests[0].parameters == lrp_pb2.LrpParameters()


def test_json_is_all_there_is_on_standard_output(fake: Any, x: Path) -> None:
    plain = json.loads(explain(x, "--json").stdout)

    np.testing.assert_allclose(plain["inputs"]["x"], X[:, np.newaxis] * 7 * np.arange(1, 6)[:, None, None], rtol=1e-5)


def test_numbers_and_pictures_are_written_to_files(fake: Any, x: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("r.npz", "heat.png", "ledger.png")]

    done = explain(x, "--out", paths[0], "--plot", paths[1], "--plot-ledger", paths[2], "--dark")

    assert done.exit_code == 0, done.output
    assert np.load(paths[0])["input/x"].shape == (5, 1, 4)
    assert [path.read_bytes() for path in paths[1:]] == [b"relevance", b"relevance-ledger"]
    assert fake.requests[0].render.dark


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--preset", "EpsilonPlus", "--rule", "flat"), "exclude each other"),
        (("--target", "1", "--target-per-row", "{x}"), "exclude each other"),
        (("--target", "one"), "whole numbers"),
        (("--rule", "flat,gamma=1"), "has no number 'gamma'"),
        (("--rule", "flat", "--gamma", "1"), "has no number 'gamma'"),
        (("--rule", "alpha-beta,alpha=2", "--alpha", "3"), "says it already"),
        (("--preset", "EpsilonPlus", "--epsilon", "0.1"), "goes with --rule"),
        (("--rules", "{x}"), "JSON"),
        (("--gradient", "gradient", "--plot-ledger", "l.png"), "no ledger"),
        (("--plot", "a.png", "--plot-ledger", "b.svg"), "one format"),
        (("--plot-ledger", "b.gif"), ".png"),
        (("--out", "nowhere/r.npz"), "no directory"),
        (("--reference", "train"), "either --input"),
        (("--wait",), "--job"),
        (("--job", "--plot", "a.png"), "--wait"),
    ],
)
def test_a_wrong_call_ends_with_status_two_before_anything_is_sent(
    fake: Any, x: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    done = explain(x, *(argument.replace("{x}", str(x)) for argument in arguments))

    assert done.exit_code == 2
    assert complaint in done.stderr
    assert not fake.requests


def test_a_model_file_is_checked_without_a_server(tmp_path: Path) -> None:
    onnx.save(dense_network([4, 8, 3]), tmp_path / "net.onnx")

    done = run("models", "check", tmp_path / "net.onnx", "--require", "lrp", "--require", "linearity")

    assert done.exit_code == 0, done.output
    assert re.search(r"dense_1 +Gemm +\[\?, 8\] +40 +yes +yes", done.stdout)
    assert "lrp: yes, with tensorflow" in done.stdout


def test_what_stands_in_the_way_is_named_and_can_fail_a_pipeline(tmp_path: Path) -> None:
    model = dense_network([4, 8, 3])
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "RandomNormalLike"
    folder = tmp_path / "net"
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")

    done = run("models", "check", folder, "--require", "lrp")
    as_json = json.loads(run("models", "check", folder, "--json").stdout)

    assert done.exit_code == 1
    assert re.search(r"RandomNormalLike \(opset 17\) +1 +relu_1", done.stdout)
    assert "linearity: yes" in done.stdout
    assert next(method for method in as_json["methods"] if method["method"] == "lrp")["supported"] is False


@pytest.mark.parametrize("content", [b"not a model", b""])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)

    assert run("models", "check", tmp_path / "net.onnx").exit_code == 1
    assert run("models", "check", tmp_path).exit_code == 1
    assert run("models", "check", tmp_path / "net.onnx", "--require", "odd").exit_code == 2
