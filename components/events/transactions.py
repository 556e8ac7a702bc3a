"""Transactions on releases, experiments and labels: one writer at a time, whole or not at all, and failures in words.

SQLite's writer waits for the lock at its start (one that reads first and then wants to write would be refused at once),
PostgreSQL's for the rows that it takes. Both wait 10 seconds at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from components.events.database import EventStoreError, connect, migrate
from components.stage import StageError

BEGIN = {
    "sqlite": ("BEGIN IMMEDIATE",),  # waits by the busy_timeout that `connect` sets
    # The second ends a driver that was stopped inside a transaction, whose locks would hold up its successor for ever.
    "postgresql": ("SET LOCAL lock_timeout = '10s'", "SET LOCAL idle_in_transaction_session_timeout = '10s'"),
}


class DatabaseRefusedError(StageError):
    """The database is away, locked, full or older than this code.

    Where it went away during a commit, that may have happened: read again what was to be changed; repeating a change is
    safe, as the one of the two that comes second loses by its version.
    """


@contextmanager
def opened(url: str, *, create: bool = True) -> Iterator[Engine]:
    """The database at its newest schema; `create` makes a missing SQLite file. Raises `DatabaseRefusedError`."""
    try:
        engine = connect(url, create=create)
        migrate(engine)
    except EventStoreError as error:
        raise DatabaseRefusedError(str(error)) from error
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def writing(engine: Engine, what: str) -> Iterator[Connection]:
    """A transaction that commits at the end of the block and leaves nothing behind where anything is raised in it."""
    with _in_words(f"{what} is not recorded"), engine.begin() as connection:
        for statement in BEGIN[engine.dialect.name]:
            connection.exec_driver_sql(statement)
        yield connection


@contextmanager
def reading(engine: Engine, what: str) -> Iterator[Connection]:
    with _in_words(f"{what} cannot be read"), engine.connect() as connection:
        yield connection


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise DatabaseRefusedError(f"{what}: {reason}; repeat it once the database answers") from error
