"""Jobs on reference sets: the same examples as the call, kept until the job has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from job_serving import FAILED, SUCCEEDED, JobServer, job_server, without_cost
from serving import CLASSES, FEATURES, dense_network, linearity_request, put_model, refusal
from sidelight.v1 import linearity_pb2, reference_pb2
from test_references import delete, upload

COUNT = 120
X = np.random.default_rng(0).random((COUNT, FEATURES), dtype=np.float32)
Y = np.arange(COUNT) % CLASSES


@pytest.fixture
def steady(repository: Path) -> Path:
    put_model(repository, "steady", 1, dense_network([FEATURES, *[256] * 10, CLASSES]))
    return repository


async def _put(jobs: JobServer, x: Any = X) -> reference_pb2.ReferenceSet:
    return (await jobs.server.references.CreateReference(iter(upload("train", x, Y)))).reference


def _selected(**selection: Any) -> linearity_pb2.ExplainLinearityRequest:
    request = linearity_request("steady")
    chosen = json_format.ParseDict({"reference": "train", **selection}, reference_pb2.ReferenceSelection())
    request.instances.CopyFrom(reference_pb2.Instances(reference=chosen))
    return request


async def test_a_job_on_selected_examples_equals_the_call_and_goes_in_slices(steady: Path, tmp_path: Path) -> None:
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        await _put(jobs)
        by_prediction = {"classes": [0, 1, 2], "source": "CLASS_SOURCE_PREDICTION"}
        for selection, units in (
            ({}, COUNT),
            ({"indices": [*range(50, 0, -1)]}, 50),
            ({"classFilter": {"classes": [1, 2]}}, 80),
            ({"classFilter": by_prediction, "sample": {"count": 60, "seed": 3}}, 60),
        ):
            request = _selected(**selection)
            request.parameters.grid.feature_range.data.reference.reference = "train"
            expected = await jobs.direct(request)

            seen = await jobs.watched((await jobs.create(request)).id)

            assert seen[-1].state == SUCCEEDED, seen[-1].error
            assert seen[-1].progress.done == seen[-1].progress.total == units
            # A watcher that is slow is told of the latest slice, not of each.
            assert any(0 < answer.progress.done < units for answer in seen)
            assert without_cost(await jobs.result(seen[-1].id)) == without_cost(expected)


async def test_a_set_that_a_job_uses_is_not_deleted_until_the_job_has_ended(steady: Path, tmp_path: Path) -> None:
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        digest = (await _put(jobs)).digest
        long = await jobs.create(linearity_request("steady", rows=20_000))
        waiting = await jobs.create(_selected())
        assert waiting.request.linearity.instances.reference.digest == digest
        assert (await refusal(jobs.server.references.DeleteReference(delete("train")))).reason == "REFERENCE_IN_USE"

    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        assert (await refusal(jobs.server.references.DeleteReference(delete("train")))).reason == "REFERENCE_IN_USE"
        await jobs.cancel(long.id)
        assert (await jobs.ended(waiting.id)).state == SUCCEEDED
        await jobs.server.references.DeleteReference(delete("train"))


async def test_a_job_means_the_examples_of_its_creation(steady: Path, tmp_path: Path) -> None:
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        await _put(jobs)
        long = await jobs.create(linearity_request("steady", rows=20_000))
        waiting = await jobs.create(_selected())
    folder = tmp_path / "data" / "references" / "sets" / "train"
    folder.rename(tmp_path / "gone")

    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        await _put(jobs, X + 1)
        await jobs.cancel(long.id)
        failed = await jobs.ended(waiting.id)
        assert (failed.state, failed.error.metadata["field"]) == (FAILED, "instances.reference.digest")


async def test_a_set_that_is_not_there_is_refused_at_creation(steady: Path, tmp_path: Path) -> None:
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        assert (await refusal(jobs.create(_selected()))).reason == "REFERENCE_NOT_FOUND"
        nameless = await refusal(jobs.create(_selected(reference="")))
        assert nameless.fields == ["request.linearity.instances.reference.reference"]
