"""How models are named, listed and described."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sidelight
from fake_server import FakeServer, digits_detail, serving
from sidelight.selection import parse_model
from sidelight.v1 import model_pb2

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("digits", model_pb2.ModelSelector(name="digits")),
        ("digits:3", model_pb2.ModelSelector(name="digits", version=3)),
        ("digits@stable", model_pb2.ModelSelector(name="digits", label="stable")),
        ("team:digits:3", model_pb2.ModelSelector(name="team:digits", version=3)),
        ("digits@2024:a", model_pb2.ModelSelector(name="digits", label="2024:a")),
    ],
)
def test_a_model_is_named_with_its_version_or_label(text: str, selector: model_pb2.ModelSelector) -> None:
    assert parse_model(text) == selector


@pytest.mark.parametrize("text", ["", "digits:", ":3", "digits:x", "digits:-1", "digits:²", "digits@", "@stable"])
def test_what_names_no_model_is_refused_with_the_forms_to_use(text: str) -> None:
    with pytest.raises(sidelight.InvalidArgument, match="name:version"):
        parse_model(text)


def test_all_pages_of_the_list_are_read(client: sidelight.Client, fake: FakeServer) -> None:
    failed = model_pb2.ModelVersion(
        version=2,
        state=model_pb2.MODEL_VERSION_STATE_FAILED,
        error=model_pb2.ModelError(reason="MODEL_INVALID", message="not a model"),
    )
    fake.pages = [[model_pb2.Model(name="a")], [model_pb2.Model(name="b", versions=[failed])]]

    models = client.models()

    assert [model.name for model in models] == ["a", "b"]
    (version,) = models[1].versions
    assert (version.version, version.state, version.available, version.available_time) == (2, "failed", False, None)
    assert version.error == sidelight.ModelError("MODEL_INVALID", "not a model")


async def test_both_clients_describe_a_model_alike(client: sidelight.Client, fake: FakeServer) -> None:
    fake.detail = digits_detail()

    detail = client.model("digits:3")
    async with sidelight.connect_async(fake.address) as asynchronous:
        assert await asynchronous.model("digits:3") == detail
        assert await asynchronous.load("digits:3") == detail
        assert await asynchronous.models() == ()
        assert (await asynchronous.unload("digits")).name == "digits"

    assert detail.version == 3
    assert detail.status.labels == ("stable",)
    assert detail.status.format == "onnx"
    assert detail.status.available
    assert detail.status.available_time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert detail.inputs == (sidelight.TensorSpec("input", "float32", (-1, 8, 8, 1)),)
    assert [(layer.name, layer.shape, layer.is_output) for layer in detail.layers] == [
        ("conv_1", (-1, 16, 8, 8), False),
        ("softmax", None, True),
    ]
    assert [layer.lrp_supported for layer in detail.layers] == [False, None]
    assert [(m.method, m.supported, m.runtime) for m in detail.methods] == [
        ("linearity", True, "onnx-runtime"),
        ("lrp", False, ""),
    ]
    assert detail.methods[1].unsupported_ops == (sidelight.UnsupportedOp("n", "Loop", "", 17, "no entry"),)
    assert detail.gradient_check.state == "passed"


def test_a_model_is_loaded_and_unloaded_by_name(client: sidelight.Client, fake: FakeServer) -> None:
    client.load("digits:3", check_gradients=True)
    unloaded = client.unload("digits")

    assert fake.requests[0].model == model_pb2.ModelSelector(name="digits", version=3)
    assert fake.requests[0].check_gradients
    assert [version.state for version in unloaded.versions] == ["unloaded"]


def test_a_unix_socket_is_an_address(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'socket'}"

    with serving(address) as fake, sidelight.connect(address) as client:
        assert client.models() == ()

    assert len(fake.requests) == 1


def test_client_and_server_are_released_as_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["project"]["version"] == sidelight.__version__
