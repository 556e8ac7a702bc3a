"""The events database by URL: SQLite (WAL, every commit fsynced) or PostgreSQL, migrated to the newest schema."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.dml import Insert

from components.errors import AtelierError

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x61746C72  # "atlr": one migration at a time, whatever process starts it
BUSY_SECONDS = 10.0  # how long SQLite waits for another process's lock, where its URL says nothing else


class EventStoreError(AtelierError):
    """The events database cannot be reached, read or written; what was being written is not acknowledged."""


def connect(url: str, *, create: bool = False) -> Engine:
    """An engine for `url`; `create` makes a missing SQLite file, else its absence raises `EventStoreError`."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            path = Path(parsed.database or "")
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
                if parsed.database not in (None, "", ":memory:"):
                    _for_its_owner_alone(path)
            elif not path.is_file():
                raise EventStoreError(f"no events database at {path}; it is made when the gateway first starts")
            engine = create_engine(parsed)
            patience = float(str(parsed.query.get("timeout", BUSY_SECONDS)))
            event.listen(engine, "connect", partial(_sqlite_pragmas, patience))
        elif parsed.drivername in ("postgresql", "postgres"):
            engine = create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        else:
            engine = create_engine(parsed, pool_pre_ping=True)
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise EventStoreError(f"events database {url.split('@')[-1]}: {error}") from error
    return engine


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


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """A connection to read events by; what goes wrong in the block is said in words, as `EventStoreError`."""
    engine = connect(url)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        if "is locked" in str(error):
            waits = "another process keeps it locked; try again when it has finished"
            raise EventStoreError(f"events cannot be read: {waits}") from error
        raise EventStoreError(f"events cannot be read: {error}") from error
    finally:
        engine.dispose()


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version, in one transaction that other processes wait for."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.connect() as connection:
            _lock(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except CommandError as error:
        raise EventStoreError(f"the events database was made by newer code ({error}); run that") from error
    except SQLAlchemyError as error:
        raise EventStoreError(f"events database {engine.url.render_as_string()}: {error}") from error


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")


def insert_new(engine: Engine, table: Table) -> Insert:
    """An INSERT that leaves rows alone whose key is known; its row count is that of the new ones."""
    dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
    # Without `preserve_rowcount` the driver's count of an INSERT is dropped, and new rows look like known ones.
    return dialect.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
