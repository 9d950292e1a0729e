"""Models and servers that tests of the service share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import onnx
import pytest
from serving import CLASSES, FEATURES, Running, Start, dense_network, put_model, running
from sidelight_service.settings import Settings


@pytest.fixture(scope="session")
def small_model() -> onnx.ModelProto:
    return dense_network([FEATURES, 8, CLASSES])


@pytest.fixture(scope="session")
def slow_model() -> onnx.ModelProto:
    """About 70 million multiplications per row: seconds for a request of many instances."""
    return dense_network([FEATURES, *[1536] * 30, CLASSES])


@pytest.fixture
def repository(tmp_path: Path, small_model: onnx.ModelProto) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    put_model(models, "small", 1, small_model)
    return models


@pytest.fixture
async def start(repository: Path) -> AsyncIterator[Start]:
    """Starts servers on the repository, with any settings; they stop at the end of the test."""
    async with AsyncExitStack() as stack:

        async def begin(*wait_for: str, **settings: Any) -> Running:
            given = {"models": repository, "addresses": ("127.0.0.1:0",), "settle_seconds": 0.0, "drain_seconds": 5.0}
            server = await stack.enter_async_context(running(Settings(**(given | settings))))
            await server.until_available(*wait_for)
            return server

        yield begin


@pytest.fixture(scope="session")
async def shared_server(
    tmp_path_factory: pytest.TempPathFactory, small_model: onnx.ModelProto
) -> AsyncIterator[Running]:
    """One server with the small model, for tests that change nothing."""
    models = tmp_path_factory.mktemp("models")
    put_model(models, "small", 1, small_model)
    async with running(Settings(models=models, addresses=("127.0.0.1:0",), settle_seconds=0.0)) as server:
        await server.until_available("small")
        yield server


@pytest.fixture(scope="session", autouse=True)
def _quiet_tensorflow() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    yield
    patch.undo()
