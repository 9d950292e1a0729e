"""The networks of the LRP goldens, each opened once per session."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engines.lrp_golden.golden_networks import GoldenNetwork, open_golden

Golden = Callable[[str, str], GoldenNetwork]


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Opens a network by name and element type."""
    folder = tmp_path_factory.mktemp("lrp_golden")
    opened: dict[tuple[str, str], GoldenNetwork] = {}

    def get(name: str, dtype: str) -> GoldenNetwork:
        if (name, dtype) not in opened:
            opened[name, dtype] = open_golden(name, dtype, folder / f"{name}_{dtype}")
        return opened[name, dtype]

    return get
