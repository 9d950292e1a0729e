"""A fake server and clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sidelight
from fake_server import FakeServer, serving


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


@pytest.fixture
def client(fake: FakeServer) -> Iterator[sidelight.Client]:
    with sidelight.connect(fake.address) as connected:
        yield connected
