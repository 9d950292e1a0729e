"""The database of jobs, where no server is needed to show it; and what is counted beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sidelight_service.errors import StorageFull
from sidelight_service.jobs.progress import Meter, SlicePace
from sidelight_service.jobs.records import QUEUED, RUNNING, SUCCEEDED
from sidelight_service.jobs.store import JobStore, NewJob


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JobStore]:
    opened = JobStore(tmp_path)
    yield opened
    await opened.close()


def _job(name: str, total: int = 10) -> NewJob:
    return NewJob(id=name, key=None, field="linearity", outline=b"", total=total)


async def test_jobs_begin_in_the_order_of_their_creation(store: JobStore) -> None:
    for name in "abc":
        await store.create(_job(name), b"", 10)

    begun = [await store.begin() for _ in range(4)]

    assert [job and job.id for job in begun] == ["a", "b", "c", None]


async def test_a_slice_of_a_job_that_was_ended_meanwhile_is_not_kept(store: JobStore) -> None:
    await store.create(_job("a"), b"", 10)
    job = await store.begin()
    assert job is not None
    await store.end("a", SUCCEEDED, keep_seconds=60)

    await store.save_slice(job, 0, 5, 10, b"slice")

    assert await store.slices(job) == []
    assert not await store.end("a", SUCCEEDED, keep_seconds=60)


async def test_slices_of_another_content_of_the_model_are_dropped(store: JobStore) -> None:
    await store.create(_job("a"), b"", 10)
    job = await store.begin()
    assert job is not None
    assert await store.bind(job, 1, "sha256:1") == 0
    await store.save_slice(job, 0, 5, 10, b"slice")

    assert await store.bind(job, 1, "sha256:1") == 5
    assert await store.bind(job, 1, "sha256:2") == 0

    assert await store.slices(job) == []
    assert (await store.get("a")).done == 0


async def test_attempts_count_over_unexpected_ends_only_and_anew_for_each_slice(store: JobStore) -> None:
    await store.create(_job("a"), b"", 10)
    attempts = []
    for in_order in (False, False, True, False):
        job = await store.begin()
        assert job is not None
        attempts.append(job.attempts)
        assert await store.requeue(in_order=in_order) == ["a"]
    job = await store.begin()
    assert job is not None
    await store.save_slice(job, 0, 5, 10, b"slice")

    assert attempts == [1, 2, 3, 1]
    assert (await store.get("a")).attempts == 1


async def test_a_full_disk_is_an_error_and_leaves_nothing_behind(store: JobStore) -> None:
    await store.create(_job("a"), b"", 10)
    database = store._database
    await database.do(database.rows, "PRAGMA max_page_count = 40")

    with pytest.raises(StorageFull) as refused:
        await store.create(_job("b"), bytes(1_000_000), 10)

    assert refused.value.needed_bytes == 1_000_000
    assert [job.id for job in await store.page((), None, 10)] == ["a"]
    assert (await store.begin()) is not None


async def test_the_space_of_jobs_whose_time_is_up_goes_back_to_the_disk(store: JobStore, tmp_path: Path) -> None:
    for name in "ab":
        await store.create(_job(name), bytes(5_000_000), 10)
        await store.end(name, SUCCEEDED, keep_seconds=-1, result=bytes(5_000_000))
    before = sum(path.stat().st_size for path in tmp_path.iterdir())

    assert sorted(await store.expire()) == ["a", "b"]

    assert before > 20_000_000
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000


async def test_the_jobs_of_a_newer_server_are_left_alone(tmp_path: Path) -> None:
    await JobStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        database.execute("PRAGMA user_version = 99")

    with pytest.raises(OSError, match="schema version 99"):
        JobStore(tmp_path)


async def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"no database" * 100)

    with pytest.raises(OSError, match=r"jobs\.sqlite"):
        JobStore(tmp_path)


async def test_a_list_can_be_of_some_states_only(store: JobStore) -> None:
    for name in "abcd":
        await store.create(_job(name), b"", 10)
    await store.begin()

    waiting = await store.page({QUEUED}, None, 2)
    rest = await store.page({QUEUED}, waiting[-1].number, 2)

    assert [job.id for job in (*waiting, *rest)] == ["d", "c", "b"]
    assert [job.id for job in await store.page({RUNNING, SUCCEEDED}, None, 9)] == ["a"]


def test_progress_tells_the_rate_of_late_and_the_time_left() -> None:
    now = 100.0
    meter = Meter(20, 120, clock=lambda: now)
    assert (meter.rate, meter.to_proto().HasField("remaining")) == (0.0, False)
    for done in (40, 60):
        now += 2
        meter.advance(done, 120)

    # What an earlier run did does not count.
    assert meter.rate == 10.0
    assert meter.to_proto().remaining.ToMilliseconds() == 6000
    now += 12
    meter.advance(70, 120)
    assert meter.rate < 10.0


def test_slices_grow_and_shrink_to_about_a_second() -> None:
    pace = SlicePace(1.0, smallest=1)
    sizes = []
    for _ in range(4):
        sizes.append(pace.size)
        pace.took(pace.size, pace.size * 0.01)
    assert sizes == [4, 32, 100, 100]
    pace.took(100, 50.0)
    assert pace.size == 2
    pace.took(2, 5.0)
    assert pace.size == 1
    assert SlicePace(1.0, smallest=30).size == 30
