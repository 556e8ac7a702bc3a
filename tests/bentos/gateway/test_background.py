"""Copies for a candidate are a bounded sample and end with the gateway; records of how they went do not get lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bentos.gateway.background import COPIES, Background
from components.events.schema import CandidateCall
from components.events.store import EventStore
from tests.components.events.examples import read

TRIAL = CandidateCall(
    request_id="r", time=1.0, kind="shadow", line="text", deployment="text-b", reason="timeout", latency_s=1.0
)


async def test_a_copy_without_a_place_is_dropped_and_those_under_way_end_with_the_gateway() -> None:
    background, ended = Background(1.0), 0

    async def copy() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    for number in range(COPIES):
        assert background.wants(f"r{number}")
        background.copy(copy())
    assert not background.wants("one more")
    await asyncio.sleep(0)
    await background.close()
    assert ended == COPIES


def test_of_all_requests_the_share_is_offered() -> None:
    wanted = sum(Background(0.25).wants(f"r{number}") for number in range(1000))
    assert 200 < wanted < 300
    assert not any(Background(0.0).wants(f"r{number}") for number in range(100))


async def test_records_are_written_before_the_gateway_ends_and_a_closed_store_harms_nobody(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    events, background = await EventStore.open(url), Background(1.0)
    background.record(events, TRIAL)
    await background.close()
    await events.close()
    background.record(events, TRIAL)
    await background.close()
    assert [row["reason"] for row in read(url, "trials")] == ["timeout"]
