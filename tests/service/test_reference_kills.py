"""Killing the server at every step of writing and deleting leaves the old state or the new one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sidelight_service.references.digests import Part, digest_of
from sidelight_service.references.opened import OpenedSet, open_set
from sidelight_service.references.store import ReferenceStore

CHILD = r"""
import json, os, signal, sys
from pathlib import Path
import numpy as np
from sidelight_service.references import files
from sidelight_service.references.store import ReferenceStore
from sidelight_service.references.writer import Chunk

root, what = Path(sys.argv[1]), sys.argv[2]
OPERATIONS = ["make_folder", "create_file", "write", "write_at", "sync", "sync_folder", "move_folder", "remove_folder"]

def chunk(first, count):
    x = np.arange(first * 6, (first + count) * 6, dtype=np.float32).reshape(count, 2, 3)
    # One-hot floats: the kind of labels that are written twice.
    return Chunk({"": x}, np.eye(3)[np.arange(first, first + count) % 3], {"": "x"})

def create(store, name, rows):
    writer = store.begin(name, "header.name", None, 0)
    for first in range(0, rows, 4):
        writer.append(chunk(first, 4))
    store.commit(writer)

def run(store):
    if what == "create":
        create(store, "new", 12)
    else:
        store.delete("old")

def instrument(kill_at):
    # Dies before an operation, or in the midst of a write or removal: half of it is done.
    steps = [0]
    def step():
        steps[0] += 1
        if steps[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    def wrap(name, real):
        def operation(*arguments):
            step()
            if name == "write":
                descriptor, data = arguments
                data = memoryview(data).cast("B")
                real(descriptor, data[: len(data) // 2])
                step()
                return real(descriptor, data[len(data) // 2 :])
            if name == "remove_folder" and arguments[0].is_dir():
                next(arguments[0].iterdir()).unlink()
                step()
            return real(*arguments)
        return operation
    for name in OPERATIONS:
        setattr(files, name, wrap(name, getattr(files, name)))
    return steps

point, killed = 0, []
while True:
    point += 1
    folder = root / f"{what}-{point}"
    folder.mkdir()
    store = ReferenceStore(folder)
    store.prepare()
    create(store, "old", 8)
    child = os.fork()
    if child == 0:
        instrument(point)
        run(store)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        break
    killed.append(point)
print(json.dumps(killed))
"""


def _is_whole(opened: OpenedSet) -> bool:
    """Whether the digest is that of what the files hold."""
    parts = [
        Part("input", name, array.dtype.name, array.shape, hashlib.sha256(array.tobytes()).hexdigest())
        for name, array in opened.inputs.items()
    ]
    if opened.labels is not None and opened.header.labels is not None:
        labels = opened.labels
        content = hashlib.sha256(labels.tobytes()).hexdigest()
        parts.append(Part(opened.header.labels.kind, "", labels.dtype.name, labels.shape, content))
    return digest_of(parts) == opened.header.digest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(("what", "least_points"), [("create", 25), ("delete", 4)])
def test_sigkill_at_any_step_leaves_the_old_state_or_the_new(tmp_path: Path, what: str, least_points: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path, what], capture_output=True, text=True, check=True, timeout=100
    )
    points = json.loads(done.stdout.splitlines()[-1])
    assert len(points) >= least_points

    seen = set()
    for point in points:
        root = tmp_path / f"{what}-{point}"
        store = ReferenceStore(root)
        store.prepare()  # as the server does when it starts again
        names = {path.name for path in (root / "references" / "sets").iterdir()}
        assert names == {header.name for header in store.headers()}
        seen.add(frozenset(names))
        assert list((root / "references" / "staging").iterdir()) == []
        for name in names:
            with store.lease(name) as location:
                opened = open_set(location)
            assert _is_whole(opened)
            rows = 12 if name == "new" else 8
            np.testing.assert_array_equal(opened.inputs[""].reshape(-1), np.arange(rows * 6))

    states = {"create": [{"old"}, {"old", "new"}], "delete": [{"old"}, set()]}
    assert seen == set(map(frozenset, states[what]))  # kills came both before and after the step that decides
