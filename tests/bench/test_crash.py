from __future__ import annotations

import random

import pytest

from components.events.database import DatabaseError
from components.events.store import EventStore
from tests.bench.crash import kill_writer, sample


def test_every_acknowledged_event_survives_kill_9(url: str) -> None:
    moments = random.Random(7)
    crashes = [kill_writer(url, f"w{i}", moments.uniform(0, 0.3)) for i in range(5)]
    assert sum(crash.acknowledged for crash in crashes) >= 5
    assert [(crash.lost, crash.damaged) for crash in crashes] == [(0, 0)] * 5


async def test_a_row_that_is_not_as_it_was_written_is_noticed(url: str) -> None:
    store = await EventStore.open(url)
    await store.append(sample("w0", 10**6).model_copy(update={"user_key": "torn"}))
    await store.close()
    assert kill_writer(url, "w0", 0).damaged == 1


def test_a_writer_that_cannot_write_is_no_crash(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatabaseError, match="ended by itself"):
        kill_writer("sqlite:////proc/no/events.db", "w0", 5)
    assert "DatabaseError" in capfd.readouterr().err
