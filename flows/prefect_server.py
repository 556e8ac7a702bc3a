"""Prefect's server with one write transaction at a time: `python -m flows.prefect_server --host HOST --port PORT`.

SQLite has one writer. Prefect 3.8 begins several at once and leaves them to SQLite's own waiting, which ends in
"database is locked" where a transaction reads before it writes, and with six clients in a server that answers nobody
for a minute. Here a transaction waits in its event loop until the one before it has ended. Databases that have more
writers are left as they are.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from weakref import WeakKeyDictionary

from prefect.server.database import configurations
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class Writer:
    """The right to write, of one task at a time; a transaction within another one of the same task waits for nobody."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        task = asyncio.current_task()
        nested = self._owner is not None and self._owner is task
        async with nullcontext() if nested else self._lock:
            self._owner, before = task, self._owner
            try:
                yield
            finally:
                self._owner = before if nested else None


_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, Writer] = WeakKeyDictionary()


@asynccontextmanager
async def begin_transaction(
    self: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = False
) -> AsyncGenerator[AsyncSessionTransaction, None]:
    """In the place of Prefect's own: every transaction is one that writes, and begins when it may."""
    writer = _writers.setdefault(asyncio.get_running_loop(), Writer())
    async with writer.turn():
        token = configurations.SQLITE_BEGIN_MODE.set("IMMEDIATE")
        try:
            async with session.begin() as transaction:
                yield transaction
        finally:
            configurations.SQLITE_BEGIN_MODE.reset(token)


def main() -> None:
    """Become `prefect server start` with the arguments given."""
    from prefect.cli import app

    AioSqliteConfiguration.begin_transaction = begin_transaction
    sys.argv[:1] = ["prefect", "server", "start"]
    app()


if __name__ == "__main__":
    main()
