from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from components.events import store as store_module
from components.events.database import DatabaseError
from components.events.read import finished as read_finished
from components.events.store import EventStore
from tests.components.events.examples import accepted, finished, like, read, requests


async def test_what_was_acknowledged_can_be_read(url: str) -> None:
    store = await EventStore.open(url)
    assert all(await asyncio.gather(*(store.append(accepted(f"r{i}", at=float(i))) for i in range(300))))
    await store.append(finished("r7"))
    await store.close()
    assert len(read(url, "accepted")) == 300
    joined = {row["request_id"]: row for row in requests(url)}
    assert joined["r7"]["latency_s"] == 0.5
    assert joined["r8"]["outcome"] is None


async def test_a_second_feedback_of_the_same_key_is_ignored(url: str) -> None:
    store = await EventStore.open(url)
    assert await store.append(like("r1", "k")) is True
    assert await store.append(like("r1", "k", value=0.0)) is False
    await store.close()
    assert [row["value"] for row in read(url, "feedback")] == [1.0]


async def test_only_accepted_requests_are_known_with_who_asked(url: str) -> None:
    store = await EventStore.open(url)
    await store.append(accepted("r1"))
    await store.append(like("r2", "k"))
    assert [await store.who_asked(name) for name in ("r1", "r2", "", "r1\x00")] == [("u", 1.0), None, None, None]
    await store.close()


async def test_text_that_a_database_refuses_is_stored_readably(url: str) -> None:
    store = await EventStore.open(url)
    await store.append(finished("r1", prompt="a\x00b \ud800 狐"))
    await store.close()
    row = read_finished(url, "r1")
    assert row is not None
    assert row["prompt"] == "a\ufffdb ? 狐"


async def test_several_processes_may_open_an_empty_database_at_once(url: str) -> None:
    stores = await asyncio.gather(*(EventStore.open(url) for _ in range(4)))
    await asyncio.gather(*(store.append(accepted(f"r{i}")) for i, store in enumerate(stores)))
    for store in stores:
        await store.close()
    assert len(read(url, "accepted")) == 4


async def test_waiting_appends_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    commit = store_module.commit
    monkeypatch.setattr(store_module, "commit", lambda engine, rows: groups.append(len(rows)) or commit(engine, rows))
    store = await EventStore.open(f"sqlite:///{tmp_path / 'events.db'}")
    await asyncio.gather(*(store.append(accepted(f"r{i}")) for i in range(500)))
    await store.close()
    assert sum(groups) == 500
    assert len(groups) < 10


async def test_a_failed_commit_raises_in_every_waiting_append_and_stores_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    store = await EventStore.open(url)
    with store.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER full BEFORE INSERT ON accepted WHEN NEW.request_id = 'r3' "
                "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
            )
        )
    results = await asyncio.gather(*(store.append(accepted(f"r{i}")) for i in range(5)), return_exceptions=True)
    assert [isinstance(result, DatabaseError) for result in results] == [True] * 5
    assert "disk I/O error" in str(results[0])
    assert read(url, "accepted") == []
    assert await store.append(accepted("r9")) is True  # the writer goes on
    await store.close()


async def test_a_full_queue_makes_appends_wait_and_loses_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    store = await EventStore.open(url, capacity=2)
    await asyncio.gather(*(store.append(accepted(f"r{i}")) for i in range(50)))
    await store.close()
    assert len(read(url, "accepted")) == 50


async def test_close_commits_what_waits_and_refuses_what_comes_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    store = await EventStore.open(url)
    waiting = [asyncio.create_task(store.append(accepted(f"r{i}"))) for i in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*waiting) == [True] * 20
    with pytest.raises(DatabaseError, match="closed"):
        await store.append(accepted("late"))


@pytest.mark.parametrize("turns", range(12))
async def test_appends_before_a_full_queue_are_written_or_refused_when_it_closes(tmp_path: Path, turns: int) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    store = await EventStore.open(url, capacity=2)
    waiting = [asyncio.create_task(store.append(accepted(f"r{i}"))) for i in range(20)]
    for _ in range(turns):  # of the loop: at which the queue is full, partly emptied, or its writer at work
        await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(5):
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(end is True or isinstance(end, DatabaseError) for end in ended)
    assert len(read(url, "accepted")) == ended.count(True)


async def test_a_database_is_opened_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, engine_of = [], store_module.engine_of

    def watched(url: str, *, create: bool = False) -> Engine:
        threads.append(threading.current_thread())
        return engine_of(url, create=create)

    monkeypatch.setattr(store_module, "engine_of", watched)
    store = await EventStore.open(f"sqlite:///{tmp_path / 'events.db'}")
    await store.close()
    assert len(threads) == 1 and threads[0] is not threading.current_thread()


async def test_a_cancelled_append_does_not_disturb_the_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    store = await EventStore.open(url)
    leaving, staying = (asyncio.create_task(store.append(accepted(name))) for name in ("leaving", "staying"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is True
    await store.close()


async def test_28_requests_that_never_ended_are_lost_and_a_late_end_changes_nothing(url: str) -> None:
    store = await EventStore.open(url)
    for name, at in (("r1", 1.0), ("r2", 2.0), ("r3", 50.0)):
        await store.append(accepted(name, at=at))
    await store.append(finished("r2"))
    assert [await store.finish_lost(before=50.0) for _ in range(2)] == [1, 0]
    assert await store.append(finished("r1")) is False
    await store.close()
    assert {row["request_id"]: row["outcome"] for row in requests(url)} == {"r1": "lost", "r2": "ok", "r3": None}


async def test_28_a_database_that_takes_no_commit_is_noticed_while_nobody_asks(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(store_module, "IDLE_SECONDS", 0.0)
    store = await EventStore.open(url)
    full, tried, rewrite = True, asyncio.Queue[bool](), store_module.rewrite
    loop = asyncio.get_running_loop()

    def disk(engine: Engine) -> None:
        loop.call_soon_threadsafe(tried.put_nowait, store.failing)
        if full:
            raise DatabaseError("events cannot be written: database or disk is full")
        rewrite(engine)

    monkeypatch.setattr(store_module, "rewrite", disk)
    watching = asyncio.create_task(store.watch())
    async with asyncio.timeout(10):
        while not await tried.get():  # until a commit is tried again because one failed
            pass
        full = False
        while await tried.get():
            pass
    assert not watching.done()
    watching.cancel()
    await store.close()
