"""The benchmarks are run by hand, long after they were written: at least they still find what they import."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
# What runs in the environments of other libraries imports those.
OURS = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith(("reference_", "__")))


@pytest.mark.parametrize("name", OURS)
def test_a_benchmark_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    importlib.import_module(f"benchmarks.{name}")
