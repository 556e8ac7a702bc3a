"""The writing side of events: many concurrent appends, one fsynced commit for all that are waiting.

`append` returns only after the transaction that holds its row is on disk, so an acknowledged event survives `kill -9`.
One writer task drains a bounded queue; while it commits, the next group gathers, so throughput grows with load
(one SQLite commit with synchronous=FULL takes about 4 ms, whatever it holds).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, Table, case, func, literal, select, text

from components.events.database import DatabaseError, described, engine_of, insert_new, migrate, reading
from components.events.schema import (
    ACCEPTED,
    FEEDBACK,
    FINISHED,
    RECHECKS,
    TRIALS,
    Accepted,
    CandidateCall,
    Event,
    Feedback,
    Finished,
    Outcome,
    Sampled,
    storable,
)

T = TypeVar("T")
TABLES: dict[type[Event], Table] = {
    Accepted: ACCEPTED,
    Finished: FINISHED,
    Feedback: FEEDBACK,
    CandidateCall: TRIALS,
    Sampled: RECHECKS,
}
IDLE_SECONDS = 5.0  # without a commit, until one is tried: a disk may fill while nobody asks
RETRY_SECONDS = 1.0  # after a commit that failed
ROOM = 256 * 1024  # bytes: more than a request's rows take
GROUP = 1024  # rows of one transaction: bounds how long the first waiter waits for the last row's insert


@dataclass(frozen=True)
class _Waiting:
    event: Event
    written: asyncio.Future[bool]


class EventStore:
    """Appends events durably; open it with `EventStore.open` inside a running event loop and close it at shutdown."""

    def __init__(self, engine: Engine, capacity: int) -> None:
        self.engine = engine
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue(capacity)
        # One thread of our own: a commit must not wait behind other users of the loop's default pool.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="events-read")
        self._closed = False
        self.failing = False  # whether the last commit failed
        self._committed = time.monotonic()
        self._writer = asyncio.create_task(self._write(), name="events-writer")

    @classmethod
    async def open(cls, url: str, capacity: int = 4096) -> EventStore:
        """Connect, migrate and start the writer; `capacity` events wait at most, further appends wait to enter."""
        return cls(await asyncio.to_thread(_at_newest, url), capacity)

    async def append(self, event: Event) -> bool:
        """True once `event` is on disk, False if its key already was; raises `DatabaseError` if it is not stored.

        A caller cancelled while waiting may find its event stored nevertheless.
        """
        if self._closed:
            raise DatabaseError("the event store is closed")
        waiting = _Waiting(event, asyncio.get_running_loop().create_future())
        await self._queue.put(waiting)
        if self._writer.done():  # it entered a full queue only after that was closed
            self._refuse_rest()
        return await waiting.written

    async def who_asked(self, request_id: str) -> tuple[str, float] | None:
        """Who asked (user key) and when (epoch s), None for an unknown id; raises `DatabaseError` if unreadable."""
        query = select(ACCEPTED.c.user_key, ACCEPTED.c.time).where(ACCEPTED.c.request_id == storable(request_id))
        row = await self._first(query)
        return (row.user_key, row.time) if row else None

    async def reactions(self, request_id: str, key: str) -> tuple[int, bool]:
        """How many reactions to a response are stored, and whether one has this idempotency key; raises as above."""
        same = func.coalesce(func.max(case((FEEDBACK.c.key == key, 1), else_=0)), 0)
        query = select(func.count().label("total"), same.label("same"))
        row = await self._first(query.where(FEEDBACK.c.request_id == storable(request_id)))
        return row.total, bool(row.same)

    async def _first(self, query: Select[Any]) -> Any:
        """The first row, or None."""

        def read() -> Any:
            with reading(self.engine) as connection:
                return connection.execute(query).first()

        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    async def watch(self) -> None:
        """Keep `failing` true to the disk while nothing is written, until cancelled."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if self.failing or time.monotonic() - self._committed > IDLE_SECONDS:
                with suppress(DatabaseError):
                    await self._commit(rewrite)

    async def finish_lost(self, before: float) -> int:
        """End requests that were accepted `before` (epoch s) and never ended, as lost; returns how many there were."""
        return await self._commit(finish_lost, before, time.time())

    async def _commit(self, work: Callable[..., T], *arguments: object) -> T:
        """Have the one thread that writes do some work, and remember whether it could."""
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._thread, partial(work, self.engine, *arguments))
        except Exception:
            self.failing = True
            raise
        self.failing, self._committed = False, time.monotonic()
        return done

    async def close(self) -> None:
        """Commit what waits, then stop; later appends raise."""
        if self._closed:
            return
        self._closed = True
        await self._queue.put(None)
        await self._writer
        self._thread.shutdown()
        self._readers.shutdown()
        self.engine.dispose()

    async def _write(self) -> None:
        while (first := await self._queue.get()) is not None:
            group, last = self._gather(first)
            try:
                events = [waiting.event for waiting in group]
                written = await self._commit(commit, events)
            except Exception as error:  # whatever failed, each waiter must hear that its event is not stored
                _fail(group, error)
            else:
                for waiting, new in zip(group, written, strict=True):
                    if not waiting.written.done():
                        waiting.written.set_result(new)
            if last:
                break
        self._refuse_rest()

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """All that waits now, up to `GROUP`, and whether the closing mark was among it."""
        group = [first]
        while len(group) < GROUP and not self._queue.empty():
            item = self._queue.get_nowait()
            if item is None:
                return group, True
            group.append(item)
        return group, False

    def _refuse_rest(self) -> None:
        """Appends that were waiting to enter a full queue when it closed."""
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if item is not None:
                _fail([item], DatabaseError("the event store is closed"))


def _at_newest(url: str) -> Engine:
    """The engine of a database that is made, or brought to the newest schema, where it has to be."""
    engine = engine_of(url, create=True)
    migrate(engine)
    return engine


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.written.done():
            failure = DatabaseError(f"event {waiting.event.request_id} is not stored: {error}")
            failure.__cause__ = error
            waiting.written.set_exception(failure)


def commit(engine: Engine, events: Sequence[Event]) -> list[bool]:
    """Insert `events` in one transaction; for each, whether it was new. All of them are stored, or none."""
    with described("the commit failed"), engine.begin() as connection:
        return [
            connection.execute(insert_new(engine, TABLES[type(event)]), event.model_dump()).rowcount == 1
            for event in events
        ]


def rewrite(engine: Engine) -> None:
    """Commit a row as it is, to see whether the disk takes it; raises `DatabaseError` where it does not.

    SQLite may find room for that inside its files where a request's rows find none, so there must be more beside them.
    """
    try:
        if engine.dialect.name == "sqlite":
            with tempfile.TemporaryFile(dir=Path(engine.url.database or "").parent) as beside:
                beside.write(bytes(ROOM))
                beside.flush()
                os.fsync(beside.fileno())
    except OSError as error:
        raise DatabaseError(f"events cannot be written: {error}") from error
    with described("events cannot be written"), engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))


def finish_lost(engine: Engine, before: float, now: float) -> int:
    """Give requests that were accepted before a time, and have no end, the end `lost`; returns how many.

    Nobody knows when they ended, so their latency is 0 and their status too.
    """
    when = {"time": now, "latency_s": 0.0, "outcome": Outcome.LOST.value, "status": 0}
    nothing = {"batch_size": 0, "prompt": "", "output": "", "prompt_tokens": 0, "completion_tokens": 0, "adapter": ""}
    given = when | nothing
    open_ = ~select(FINISHED.c.request_id).where(FINISHED.c.request_id == ACCEPTED.c.request_id).exists()
    rows = select(ACCEPTED.c.request_id, *(literal(value) for value in given.values()))
    ends = insert_new(engine, FINISHED).from_select(["request_id", *given], rows.where(ACCEPTED.c.time < before, open_))
    with described("lost requests cannot be ended"), engine.begin() as connection:
        return connection.execute(ends).rowcount
