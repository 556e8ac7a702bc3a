"""The writing side of events: many concurrent appends, one fsynced commit for all that are waiting.

`append` returns only after the transaction that holds its row is on disk, so an acknowledged event survives `kill -9`.
One writer task drains a bounded queue; while it commits, the next group gathers, so throughput grows with load
(one SQLite commit with synchronous=FULL takes about 4 ms, whatever it holds).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Engine, Table, select
from sqlalchemy.exc import SQLAlchemyError

from components.events.database import EventStoreError, connect, insert_new, migrate
from components.events.schema import (
    ACCEPTED,
    FEEDBACK,
    FINISHED,
    TRIALS,
    Accepted,
    Event,
    Feedback,
    Finished,
    Trial,
    storable,
)

TABLES: dict[type[Event], Table] = {Accepted: ACCEPTED, Finished: FINISHED, Feedback: FEEDBACK, Trial: TRIALS}
GROUP = 1024  # rows of one transaction: bounds how long the first waiter waits for the last row's insert


@dataclass(frozen=True)
class _Waiting:
    event: Event
    written: asyncio.Future[bool]


class EventStore:
    """Appends events durably; open it with `EventStore.open` inside a running event loop and close it at shutdown."""

    def __init__(self, engine: Engine, capacity: int) -> None:
        self._engine = engine
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue(capacity)
        # One thread of our own: a commit must not wait behind other users of the loop's default pool.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._closed = False
        self._writer = asyncio.create_task(self._write(), name="events-writer")

    @classmethod
    async def open(cls, url: str, capacity: int = 4096) -> EventStore:
        """Connect, migrate and start the writer; `capacity` events wait at most, further appends wait to enter."""
        engine = await asyncio.to_thread(_prepare, url)
        return cls(engine, capacity)

    async def append(self, event: Event) -> bool:
        """True once `event` is on disk, False if its key already was; raises `EventStoreError` if it is not stored.

        A caller cancelled while waiting may find its event stored nevertheless.
        """
        if self._closed:
            raise EventStoreError("the event store is closed")
        waiting = _Waiting(event, asyncio.get_running_loop().create_future())
        await self._queue.put(waiting)
        return await waiting.written

    async def asked(self, request_id: str) -> tuple[str, float] | None:
        """Who asked (user key) and when (epoch s), None for an unknown id; raises `EventStoreError` if unreadable."""
        return await asyncio.to_thread(accepted, self._engine, request_id)

    async def close(self) -> None:
        """Commit what waits, then stop; later appends raise."""
        if self._closed:
            return
        self._closed = True
        await self._queue.put(None)
        await self._writer
        self._thread.shutdown()
        self._engine.dispose()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while (first := await self._queue.get()) is not None:
            group, last = self._gather(first)
            try:
                written = await loop.run_in_executor(self._thread, commit, self._engine, [w.event for w in group])
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
                _fail([item], EventStoreError("the event store is closed"))


def _prepare(url: str) -> Engine:
    engine = connect(url, create=True)
    migrate(engine)
    return engine


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.written.done():
            failure = EventStoreError(f"event {waiting.event.request_id} is not stored: {error}")
            failure.__cause__ = error
            waiting.written.set_exception(failure)


def commit(engine: Engine, events: Sequence[Event]) -> list[bool]:
    """Insert `events` in one transaction; for each, whether it was new. All of them are stored, or none."""
    try:
        with engine.begin() as connection:
            return [
                connection.execute(insert_new(engine, TABLES[type(event)]), event.model_dump()).rowcount == 1
                for event in events
            ]
    except SQLAlchemyError as error:
        raise EventStoreError(str(error)) from error


def accepted(engine: Engine, request_id: str) -> tuple[str, float] | None:
    """Who asked (user key) and when (epoch s), or None where no request of this id was accepted."""
    try:
        with engine.connect() as connection:
            found = select(ACCEPTED.c.user_key, ACCEPTED.c.time).where(ACCEPTED.c.request_id == storable(request_id))
            row = connection.execute(found).first()
            return (row.user_key, row.time) if row else None
    except SQLAlchemyError as error:
        raise EventStoreError(f"events cannot be read: {error}") from error
