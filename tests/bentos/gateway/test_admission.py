"""Bounded admission, alone and in the running gateway."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bentos.gateway.admission import Admission
from bentos.gateway.errors import ApiError
from tests.bentos.gateway.conftest import CONCURRENCY, KEY, QUEUE, Running, named_standin, serve_gateway
from tests.bentos.processes import answering


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
    admission = Admission("text", 2, 3)
    async with occupied(admission, 5):
        with pytest.raises(ApiError) as caught:
            async with admission.slot():
                pass
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    async with admission.slot():  # the places are free again
        pass


async def test_who_stops_waiting_leaves_the_place_to_others() -> None:
    admission = Admission("text", 1, 1)
    async with occupied(admission, 2) as tasks:
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        waiting = asyncio.create_task(admission.slot().__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_waiting_requests_enter_in_order() -> None:
    admission = Admission("text", 1, 9)
    order: list[int] = []

    async def enter(number: int) -> None:
        async with admission.slot():
            order.append(number)

    async with occupied(admission, 1):
        entering = [asyncio.create_task(enter(number)) for number in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*entering)
    assert order == [0, 1, 2, 3, 4]


async def test_who_waits_until_the_deadline_is_refused_and_leaves_the_place_to_others() -> None:
    admission = Admission("text", 1, 1)
    async with occupied(admission, 1):
        with pytest.raises(ApiError) as caught:
            async with admission.slot(asyncio.get_running_loop().time()):
                pass
        assert caught.value.status == 429
        waiting = asyncio.create_task(admission.slot().__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def entering(admission: Admission, share: str, log: list[str], hold: asyncio.Event) -> None:
    async with admission.slot(share=share):
        log.append(share)
        await hold.wait()


async def test_26_who_has_least_in_work_enters_next() -> None:
    admission, log, hold = Admission("text", 2, 9), list[str](), [asyncio.Event() for _ in range(6)]
    shares = ["k/a", "k/a", "k/a", "k/b", "l/c", "k/a"]
    tasks = [asyncio.create_task(entering(admission, s, log, h)) for s, h in zip(shares, hold, strict=True)]
    await asyncio.sleep(0)
    for event in hold:
        event.set()
    await asyncio.gather(*tasks)
    # The other key first, then whoever of the first key came first; and b while an a is at work.
    assert log == ["k/a", "k/a", "l/c", "k/a", "k/b", "k/a"]


async def test_26_a_full_queue_makes_room_for_who_has_none_and_its_newest_holder_is_refused() -> None:
    admission, log, hold = Admission("text", 1, 3), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(entering(admission, "k/a", log, hold)) for _ in range(4)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(entering(admission, share, log, hold)) for share in ("k/b", "l/c", "k/a", "l/c")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    hold.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end.status if isinstance(end, ApiError) else end for end in ends] == [
        *(None, 429, 429, 429),  # of a's four the newest made room, for b, for c and for c again: both keys have two
        *(None, None, 429, None),
    ]
    assert sorted(log) == ["k/a", "k/b", "l/c", "l/c"]


async def test_26_a_turn_that_comes_while_its_request_is_given_up_is_lost_to_nobody() -> None:
    admission, log, hold = Admission("text", 1, 3), list[str](), asyncio.Event()
    first = asyncio.create_task(entering(admission, "k/a", log, hold))
    second, third = (asyncio.create_task(entering(admission, share, log, asyncio.Event())) for share in ("k/b", "k/c"))
    await asyncio.sleep(0)
    hold.set()
    await first
    second.cancel()
    await asyncio.wait([second])
    await asyncio.sleep(0)
    assert log[0] == "k/a" and log[-1] == "k/c"
    third.cancel()
    await asyncio.wait([third])
    async with admission.slot():
        pass


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


CHAT = {"model": "atelier-text", "messages": [{"role": "user", "content": "a red boat"}]}


def places_taken(gateway: Running) -> int:
    """Requests of all lines that are in work or wait."""
    text = httpx.get(f"{gateway.url}/metrics", timeout=20).text
    found = re.findall(r"^atelier_(?:in_work|queue_depth)(?:{.*})? (\d+)", text, re.MULTILINE)
    return sum(map(int, found))


async def test_25_a_hung_text_line_takes_no_place_of_the_image_line(standin: str, tmp_path: Path) -> None:
    with named_standin(tmp_path / "text", "hangs") as text:
        process = answering(text)
        with serve_gateway(tmp_path / "gateway", standin, f"{text}/text", f"{standin}/image") as gateway:
            os.kill(process, signal.SIGSTOP)
            try:
                await _image_line_answers_while_text_hangs(gateway)
            finally:
                os.kill(process, signal.SIGCONT)


async def _image_line_answers_while_text_hangs(gateway: Running) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:
        held = [asyncio.create_task(client.post("/v1/chat/completions", json=CHAT)) for _ in range(CONCURRENCY + QUEUE)]
        while await asyncio.to_thread(places_taken, gateway) < CONCURRENCY + QUEUE:
            assert not [task for task in held if task.done()]
        refused = await client.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code in (429, 503)  # 503 once it has been silent for long enough
        answers = [await client.post("/v1/images/generations", json={"prompt": f"boat {i}"}) for i in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 8
        assert not [task for task in held if task.done()]  # all of that while they waited
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
