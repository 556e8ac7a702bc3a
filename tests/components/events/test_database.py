from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL

from components.annotation.task_store import METADATA  # that of the events, with the tables of labelling tasks
from components.events import database
from components.events.database import (
    DatabaseError,
    NoDatabaseError,
    bounded,
    connect,
    engine_of,
    migrate,
    opened,
    reading,
)
from components.events.store import EventStore
from components.experiments.versions import EXPERIMENTS
from components.releases.schema import RELEASES
from tests.components.events.examples import accepted


def test_the_migrations_make_exactly_the_schema_and_run_once(url: str) -> None:
    assert RELEASES.metadata is METADATA and EXPERIMENTS.metadata is METADATA  # with those of both too
    engine = connect(url)
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_sqlite_commits_are_fsynced(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'events.db'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_wrong_url_is_refused_without_its_password() -> None:
    with pytest.raises(DatabaseError) as refused:
        engine_of("postgresql+nothing://someone:secret@host/events")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused_in_words(url: str, create: bool) -> None:
    with pytest.raises(DatabaseError, match="that of one process") as refused:
        engine_of(url, create=create)
    assert not isinstance(refused.value, NoDatabaseError)


def test_threads_that_ask_at_once_get_one_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(url: URL) -> Engine:
        with suppress(threading.BrokenBarrierError):  # until another is at it too, or none is for a while
            together.wait(0.2)
        return create_engine(url)

    monkeypatch.setattr(database, "create_engine", slow)
    together, url = threading.Barrier(2), f"sqlite:///{tmp_path / 'events.db'}"
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: engine_of(url, create=True), range(2))
    assert one is other


def connections_to(path: Path) -> int:
    return sum(file.path == str(path) for file in psutil.Process().open_files())


def test_a_reader_within_another_leaves_the_pool_alone_and_both_leave_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    url = f"sqlite:///{path}"
    with opened(url) as engine:
        pool = engine.pool
        with reading(url) as outer:
            with reading(url) as inner:
                assert inner.exec_driver_sql("SELECT 1").scalar() == 1
            assert engine.pool is pool
            assert outer.exec_driver_sql("SELECT 1").scalar() == 1
            assert connections_to(path) == 2  # the outer reader's, and the one that the pool keeps
    gc.disable()  # what nobody holds any more would be closed by it at some time
    try:
        with reading(url), reading(url):
            assert connections_to(path) == 2
        assert connections_to(path) == 0
    finally:
        gc.enable()


def test_an_unreachable_server_is_said_without_its_password() -> None:
    engine = connect("postgresql://someone:secret@127.0.0.1:1/events")
    with pytest.raises(DatabaseError, match="@127") as refused:
        migrate(engine)
    assert "secret" not in str(refused.value)


def test_a_bounded_url_is_the_same_database_with_limits_beside_the_options_it_has(url: str) -> None:
    engine = connect(bounded(url, 2))
    with engine.connect() as connection:
        limit = "PRAGMA busy_timeout" if engine.dialect.name == "sqlite" else "SHOW statement_timeout"
        assert connection.exec_driver_sql(limit).scalar() in (2000, "2s")
    engine.dispose()
    server = bounded("postgresql://someone:secret@host/events?options=-c%20search_path%3Da", 2)
    assert "someone:secret@host/events" in server and "search_path%3Da+-c+statement_timeout%3D2s" in server


async def test_33_events_are_for_their_owner_alone_whatever_the_mask(tmp_path: Path) -> None:
    path, mask = tmp_path / "events.db", os.umask(0o022)
    try:
        for name in ("r1", "r2"):
            store = await EventStore.open(f"sqlite:///{path}")
            await store.append(accepted(name))
            modes = {file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir()}  # noqa: ASYNC240
            assert modes.keys() >= {"events.db", "events.db-wal"}
            others = 0o077 if name == "r1" else 0o007  # a group that older versions let in stays
            assert not [mode for mode in modes.values() if mode & others]
            await store.close()
            path.chmod(0o644)  # as older versions left it
    finally:
        os.umask(mask)


def test_a_relative_path_is_another_file_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        with opened("sqlite:///events.db") as engine, engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA database_list").all()[0][2] == str(tmp_path / name / "events.db")
