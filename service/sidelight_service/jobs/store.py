"""The jobs on disk: an SQLite database that every change goes through whole.

Requests, finished slices and results are kept in it as serialized messages, so that a change of state and what
belongs to it become visible together or not at all, wherever the process is killed.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sidelight_service.errors import JobNotFound, QueueFull, WrongJobState
from sidelight_service.jobs.database import Database
from sidelight_service.jobs.records import QUEUED, RUNNING, SUCCEEDED, JobRecord, state_name

_COLUMNS = ", ".join(field.name for field in fields(JobRecord))


@dataclass(frozen=True)
class NewJob:
    """What a job is created from.

    Attributes:
        id: what callers will call it.
        key: the caller's idempotency key; None for none.
        field: of JobRequest that is set.
        outline: its JobRequest without tensors, serialized.
        total: units in all; 0 if not known.
    """

    id: str
    key: str | None
    field: str
    outline: bytes
    total: int


class JobStore:
    """The database. Its methods may be awaited from one event loop; each is one transaction."""

    def __init__(self, folder: Path) -> None:
        """Opens the database in a data directory; see `Database`."""
        self._database = Database(folder)

    async def close(self) -> None:
        """Closes the database, after what was asked before."""
        await self._database.close()

    async def create(self, job: NewJob, request: bytes, queue_limit: int) -> tuple[JobRecord, bool]:
        """Puts a job in the queue.

        Args:
            job: the job.
            request: its JobRequest, serialized.
            queue_limit: how many may wait.

        Returns:
            The job, and whether it is new: with an idempotency key that is known it is the one of then.

        Raises:
            QueueFull: so many wait already.
            StorageFull: there is no space for it.
        """
        return await self._database.do(self._create, job, request, queue_limit)

    def _create(self, job: NewJob, request: bytes, queue_limit: int) -> tuple[JobRecord, bool]:
        with self._database.transaction() as database:
            if job.key is not None:
                known = self._select("idempotency_key = ?", job.key)
                if known:
                    return known[0], False
            (waiting,) = database.execute("SELECT count(*) FROM jobs WHERE state = ?", [QUEUED]).fetchone()
            if waiting >= queue_limit:
                raise QueueFull("job", queue_limit)
            row = database.execute(
                "INSERT INTO jobs (id, idempotency_key, state, field, outline, total, create_time)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [job.id, job.key, QUEUED, job.field, job.outline, job.total, _now()],
            )
            database.execute("INSERT INTO requests VALUES (?, ?)", [row.lastrowid, request])
            return self._select("id = ?", job.id)[0], True

    async def get(self, job: str) -> JobRecord:
        """One job.

        Raises:
            JobNotFound: there is none of that id.
        """
        return await self._database.do(self._get, job)

    def _get(self, job: str) -> JobRecord:
        found = self._select("id = ?", job)
        if not found:
            raise JobNotFound(job)
        return found[0]

    async def request(self, job: str) -> bytes:
        """The serialized JobRequest of a job.

        Raises:
            JobNotFound: there is none of that id.
        """
        return await self._database.do(self._message, "requests", job)

    async def result(self, job: str) -> bytes:
        """The serialized JobResult of a job that succeeded.

        Raises:
            JobNotFound: there is none of that id.
            WrongJobState: it did not succeed, or not yet.
        """
        return await self._database.do(self._result, job)

    def _result(self, job: str) -> bytes:
        with self._database.transaction():
            record = self._get(job)
            if record.state != SUCCEEDED:
                remedy = "follow it with WatchJob" if not record.ended else "GetJob says what became of it"
                raise WrongJobState(job, state_name(record.state), f"there is no result to read; {remedy}")
            return self._message("results", job)

    def _message(self, table: str, job: str) -> bytes:
        query = f"SELECT message FROM {table} JOIN jobs USING (number) WHERE id = ?"  # noqa: S608 - names of ours
        rows = self._database.rows(query, job)
        if not rows:
            raise JobNotFound(job)
        message: bytes = rows[0][0]
        return message

    async def page(self, states: Collection[int], before: int | None, size: int) -> list[JobRecord]:
        """Jobs, newest first.

        Args:
            states: those wanted; empty for all.
            before: only jobs with lower numbers; None for no such limit.
            size: the most to return.
        """
        return await self._database.do(self._page, tuple(states), before, size)

    def _page(self, states: tuple[int, ...], before: int | None, size: int) -> list[JobRecord]:
        marks = ", ".join("?" * len(states))
        conditions = [f"state IN ({marks})"] * bool(states) + ["number < ?"] * (before is not None)
        values = [*states, *([] if before is None else [before]), size]
        return self._select(f"{' AND '.join(conditions) or 'TRUE'} ORDER BY number DESC LIMIT ?", *values)

    async def any_active(self, field: str) -> bool:
        """Whether a job of this field of JobRequest waits or runs."""
        query = "SELECT count(*) FROM jobs WHERE field = ? AND state IN (?, ?)"
        rows = await self._database.do(self._database.rows, query, field, QUEUED, RUNNING)
        return bool(rows[0][0])

    async def begin(self) -> JobRecord | None:
        """Takes the job that has waited longest out of the queue; None if none waits."""
        return await self._database.do(self._begin)

    def _begin(self) -> JobRecord | None:
        with self._database.transaction() as database:
            waiting = self._select("state = ? ORDER BY number LIMIT 1", QUEUED)
            if not waiting:
                return None
            number = waiting[0].number
            database.execute(
                "UPDATE jobs SET state = ?, attempts = attempts + 1,"
                " start_time = CASE start_time WHEN 0 THEN ? ELSE start_time END WHERE number = ?",
                [RUNNING, _now(), number],
            )
            return self._select("number = ?", number)[0]

    async def bind(self, job: JobRecord, version: int, digest: str) -> int:
        """Notes the content of the model that slices are made with; slices made with another are dropped.

        Returns:
            The units that are done with this content.
        """
        return await self._database.do(self._bind, job.number, version, digest)

    def _bind(self, number: int, version: int, digest: str) -> int:
        with self._database.transaction() as database:
            database.execute(
                "DELETE FROM slices WHERE number IN (SELECT number FROM jobs WHERE number = ? AND digest <> ?)",
                [number, digest],
            )
            (done,) = database.execute(
                "SELECT coalesce(sum(units), 0) FROM slices WHERE number = ?", [number]
            ).fetchone()
            database.execute(
                "UPDATE jobs SET version = ?, digest = ?, done = ? WHERE number = ?", [version, digest, done, number]
            )
            return int(done)

    async def save_slice(self, job: JobRecord, first: int, units: int, total: int, response: bytes) -> None:
        """Keeps a finished slice of a running job.

        Raises:
            StorageFull: there is no space for it.
        """
        await self._database.do(self._save_slice, job.number, first, units, total, response)

    def _save_slice(self, number: int, first: int, units: int, total: int, response: bytes) -> None:
        with self._database.transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET done = ?, total = ?, attempts = 1 WHERE number = ? AND state = ?",
                [first + units, total, number, RUNNING],
            )
            if changed.rowcount:
                database.execute("INSERT INTO slices VALUES (?, ?, ?, ?)", [number, first, units, response])

    async def slices(self, job: JobRecord) -> list[bytes]:
        """The serialized responses of the finished slices, in order."""
        query = "SELECT message FROM slices WHERE number = ? ORDER BY first"
        return [row[0] for row in await self._database.do(self._database.rows, query, job.number)]

    async def slice_bytes(self, job: JobRecord) -> int:
        """The bytes of the finished slices."""
        query = "SELECT coalesce(sum(length(message)), 0) FROM slices WHERE number = ?"
        return int((await self._database.do(self._database.rows, query, job.number))[0][0])

    async def count_attempt(self, job: JobRecord) -> int:
        """Notes that the next unit of a job is begun again; how often it now was."""
        return await self._database.do(self._count_attempt, job.number)

    def _count_attempt(self, number: int) -> int:
        with self._database.transaction() as database:
            database.execute("UPDATE jobs SET attempts = attempts + 1 WHERE number = ?", [number])
            return self._select("number = ?", number)[0].attempts

    async def end(
        self,
        job: str,
        state: int,
        *,
        keep_seconds: float,
        result: bytes | None = None,
        error: bytes = b"",
        total: int = 0,
    ) -> bool:
        """Ends a job; what it saved on the way is dropped.

        Args:
            job: its id.
            state: SUCCEEDED, FAILED or CANCELLED.
            keep_seconds: how long it can be read.
            result: a JobResult, serialized.
            error: a JobError, serialized.
            total: units in all, where only the running work knew them; 0 if it did not say.

        Returns:
            Whether it was this that ended it; false if it had ended before, or is gone.

        Raises:
            StorageFull: there is no space for the result.
        """
        return await self._database.do(self._end, job, state, keep_seconds, result, error, total)

    def _end(self, job: str, state: int, keep_seconds: float, result: bytes | None, error: bytes, total: int) -> bool:
        with self._database.transaction() as database:
            found = self._select("id = ?", job)
            if not found or found[0].ended:
                return False
            record, now = found[0], _now()
            total = record.total or total
            done = total if state == SUCCEEDED else record.done
            database.execute(
                "UPDATE jobs SET state = ?, done = ?, total = ?, end_time = ?, expire_time = ?, error = ?"
                " WHERE number = ?",
                [state, done, total, now, now + int(keep_seconds * 1e6), error, record.number],
            )
            database.execute("DELETE FROM slices WHERE number = ?", [record.number])
            if result is not None:
                database.execute("INSERT INTO results VALUES (?, ?)", [record.number, result])
            return True

    async def delete(self, job: str) -> None:
        """Deletes a job that has ended.

        Raises:
            JobNotFound: there is none of that id.
            WrongJobState: it has not ended.
        """
        await self._database.do(self._delete, job)

    def _delete(self, job: str) -> None:
        with self._database.transaction() as database:
            record = self._get(job)
            if not record.ended:
                raise WrongJobState(job, state_name(record.state), "it can not be deleted; cancel it first")
            database.execute("DELETE FROM jobs WHERE number = ?", [record.number])

    async def expire(self) -> list[str]:
        """Deletes the jobs whose time is up, and gives free space back to the disk; the ids of those jobs."""
        return await self._database.do(self._expire)

    def _expire(self) -> list[str]:
        with self._database.transaction() as database:
            rows = database.execute(
                "DELETE FROM jobs WHERE expire_time > 0 AND expire_time <= ? RETURNING id", [_now()]
            ).fetchall()
        self._database.give_space_back()
        return [row[0] for row in rows]

    async def requeue(self, *, in_order: bool) -> list[str]:
        """Puts jobs that are marked as running back in the queue; their ids.

        Args:
            in_order: whether they were stopped in order, so that the attempt does not count.
        """
        return await self._database.do(self._requeue, in_order)

    def _requeue(self, in_order: bool) -> list[str]:
        attempts = "0" if in_order else "attempts"
        query = f"UPDATE jobs SET state = ?, attempts = {attempts} WHERE state = ? RETURNING id"  # noqa: S608
        with self._database.transaction() as database:
            return [row[0] for row in database.execute(query, [QUEUED, RUNNING]).fetchall()]

    def _select(self, condition: str, *values: Any) -> list[JobRecord]:
        query = f"SELECT {_COLUMNS} FROM jobs WHERE {condition}"  # noqa: S608 - conditions are ours, values are bound
        return [JobRecord(*row) for row in self._database.rows(query, *values)]


def _now() -> int:
    """In microseconds since 1970."""
    return time.time_ns() // 1000
