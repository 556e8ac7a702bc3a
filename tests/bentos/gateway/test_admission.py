"""Bounded admission, alone and in the running gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from bentos.gateway.admission import Admission
from bentos.gateway.errors import ApiError
from tests.bentos.gateway.conftest import CONCURRENCY, KEY, QUEUE, Running


@asynccontextmanager
async def occupied(admission: Admission, places: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """`places` requests in work or waiting until the block ends."""
    release = asyncio.Event()

    async def hold() -> None:
        async with admission.slot():
            await release.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(places)]
    await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_refuses_with_retry_after_beyond_work_and_queue() -> None:
    admission = Admission(2, 3)
    async with occupied(admission, 5):
        with pytest.raises(ApiError) as caught:
            async with admission.slot():
                pass
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    async with admission.slot():  # the places are free again
        pass


async def test_who_stops_waiting_leaves_the_place_to_others() -> None:
    admission = Admission(1, 1)
    async with occupied(admission, 2) as tasks:
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        waiting = asyncio.create_task(admission.slot().__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_waiting_requests_enter_in_order() -> None:
    admission = Admission(1, 9)
    order: list[int] = []

    async def enter(number: int) -> None:
        async with admission.slot():
            order.append(number)

    async with occupied(admission, 1):
        entering = [asyncio.create_task(enter(number)) for number in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*entering)
    assert order == [0, 1, 2, 3, 4]


async def test_a_full_gateway_answers_429_and_recovers(gateway: Running) -> None:
    body = {"prompt": "HOLD the queue"}
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client:
        places = CONCURRENCY + QUEUE
        held = [asyncio.create_task(client.post("/v1/images/generations", json=body)) for _ in range(places + 1)]
        # One of them is refused at once; the others hold every place.
        done, rest = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
        refusal = done.pop().result()
        assert refusal.status_code == 429
        assert int(refusal.headers["retry-after"]) >= 1
        assert refusal.json()["error"]["code"] == "overloaded"
        for task in rest:
            task.cancel()
        await asyncio.wait(rest)
        answer = await client.post("/v1/images/generations", json={"prompt": "a red boat"})
        while answer.status_code == 429:  # until the gateway has noticed all who left
            answer = await client.post("/v1/images/generations", json={"prompt": "a red boat"})
        assert answer.status_code == 200
