"""The one door to the events database: SQLite (WAL, every commit fsynced) or PostgreSQL, named by its URL.

A process has one engine for each URL. `opened` brings the schema to the newest version, `reading` and `writing` are the
two kinds of transaction; what fails in them is a `DatabaseError`. SQLite's writer waits for the lock at its start (one
that reads first and then wants to write would be refused at once), PostgreSQL's for the rows that it takes. Both wait
10 seconds at most.
"""

from __future__ import annotations

import hashlib
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.dml import Insert

from components.stage import StageError

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x61746C72  # "atlr": one migration at a time, whatever process starts it
Database = str | Engine  # named by its URL, or opened
BUSY_SECONDS = 10.0  # how long SQLite waits for another process's lock, where its URL says nothing else
BEGIN = {
    "sqlite": ("BEGIN IMMEDIATE",),  # waits by the busy_timeout that `connect` sets
    # The second ends a driver that was stopped inside a transaction, whose locks would hold up its successor for ever.
    "postgresql": ("SET LOCAL lock_timeout = '10s'", "SET LOCAL idle_in_transaction_session_timeout = '10s'"),
}


class DatabaseError(StageError):
    """The database is away, locked, full, or of another version than this code; what was to be written is not
    acknowledged.

    Where it went away during a commit, that may have happened: read again what was to be changed; repeating a change is
    safe, as the one of the two that comes second loses by its version.
    """


class NoDatabaseError(DatabaseError):
    """There is no SQLite file yet."""


@contextmanager
def opened(url: str, *, create: bool = True) -> Iterator[Engine]:
    """The database at its newest schema; `create` makes a missing SQLite file."""
    engine = engine_of(url, create=create)
    migrate(engine)
    try:
        yield engine
    finally:
        engine.dispose()  # closes the connections that nobody uses now; the engine stays


@contextmanager
def reading(database: Database, what: str = "events") -> Iterator[Connection]:
    """A connection that only reads; of a database that is named by its URL the schema stays as it is, and no connection
    stays open."""
    engine = engine_of(database) if isinstance(database, str) else database
    with described(f"{what} cannot be read"), engine.connect() as connection:
        if isinstance(database, str):
            connection.detach()  # it closes at the end; the pool is also that of others, who may be at work
        yield connection


@contextmanager
def writing(engine: Engine, what: str) -> Iterator[Connection]:
    """A transaction that commits at the end of the block and leaves nothing behind where anything is raised in it."""
    with described(f"{what} is not recorded"), engine.begin() as connection:
        for statement in BEGIN[engine.dialect.name]:
            connection.exec_driver_sql(statement)
        yield connection


@contextmanager
def described(what: str) -> Iterator[None]:
    """Turn what the driver raises in the block into a `DatabaseError` that says `what` failed, and why."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = next(iter(str(getattr(error, "orig", None) or error).splitlines()), type(error).__name__)
        if "is locked" in reason:
            reason = "another process keeps it locked"
        raise DatabaseError(f"{what}: {reason}; try again once the database answers") from error


def engine_of(url: str, *, create: bool = False) -> Engine:
    """This process's engine for `url`; `create` makes a missing SQLite file, whose absence is an error otherwise."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            parsed = _with_its_file(parsed, create)
        with _FIRST:
            return _engine(parsed.render_as_string(hide_password=False))
    except (SQLAlchemyError, ImportError, OSError) as error:
        # Without the password that the URL may hold.
        raise DatabaseError(f"events database {url.split('@')[-1]}: {error}") from error


def connect(url: str) -> Engine:
    """An engine of the caller's own, who disposes of it."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed)
        patience = float(str(parsed.query.get("timeout", BUSY_SECONDS)))
        event.listen(engine, "connect", partial(_sqlite_pragmas, patience))
        return engine
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(parsed, pool_pre_ping=True)


_engine = lru_cache(maxsize=8)(connect)  # a process of the stack has one or two
_FIRST = threading.Lock()  # of threads that ask at once all get the engine of the first


def _with_its_file(url: URL, create: bool) -> URL:
    """SQLite's URL with an absolute path: a relative one means another file in another working directory."""
    if url.database in (None, "", ":memory:"):
        raise DatabaseError(
            f"events database {url}: in memory it would be that of one process, and all of the stack share it; name a "
            "file"
        )
    path = Path(url.database)
    if not create and not path.is_file():
        raise NoDatabaseError(f"no events database at {path}; it is made when the gateway first starts")
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        _for_its_owner_alone(path)
    return url.set(database=str(path.absolute()))


def _for_its_owner_alone(path: Path) -> None:
    """Make the file where there is none; other users of the machine read no events, whatever mask a program has.

    SQLite gives its log and its index the same permissions.
    """
    path.touch(mode=0o600)
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(FileNotFoundError, PermissionError):  # another user's, who lets our group write
            file.chmod(stat.S_IMODE(file.stat().st_mode) & ~stat.S_IRWXO)


def bounded(url: str, seconds: int) -> str:
    """The same database by a URL that waits `seconds` at most for a connection, a lock or (PostgreSQL) an answer."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        parsed = parsed.update_query_dict({"timeout": str(seconds)})
    else:
        options = " ".join([*parsed.normalized_query.get("options", ()), f"-c statement_timeout={seconds}s"])
        parsed = parsed.update_query_dict({"connect_timeout": str(seconds), "options": options})
    return parsed.render_as_string(hide_password=False)


def _sqlite_pragmas(patience: float, connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    # busy_timeout first: switching to WAL itself may have to wait for another process.
    for pragma in (f"busy_timeout={patience * 1000:.0f}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    # PostgreSQL has md5: with the same function here, both databases sample the same requests.
    connection.create_function("md5", 1, _md5, deterministic=True)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version, in one transaction that other processes wait for."""
    lock = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"
    try:
        with engine.connect() as connection:
            if MigrationContext.configure(connection).get_current_revision() == _newest_version():
                return
        with engine.connect() as connection:
            connection.exec_driver_sql(lock)
            command.upgrade(_alembic(connection=connection), "head")
            connection.commit()
    except CommandError as error:
        raise DatabaseError(f"the events database was made by newer code ({error}); run that") from error
    except SQLAlchemyError as error:
        raise DatabaseError(f"events database {engine.url.render_as_string()}: {error}") from error


def _alembic(**attributes: Connection) -> Config:
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


@lru_cache
def _newest_version() -> str | None:
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def insert_new(engine: Engine, table: Table) -> Insert:
    """An INSERT that leaves rows alone whose key is known; its row count is that of the new ones."""
    dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
    # Without `preserve_rowcount` the driver's count of an INSERT is dropped, and new rows look like known ones.
    return dialect.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
