"""The middleware by which the jobs of callers are marked who left while their job waited."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from bentos.calls import Calls, of_job
from bentos.image.service import Departures

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/generate", "headers": [(b"x-job-id", b"job-1")]}


async def call(messages: list[Message]) -> bool:
    """One call whose client sends `messages` and then nothing: whether its job is marked when its turn comes."""
    waiting = iter(messages)
    drained = asyncio.Event()
    marked: list[bool] = []

    async def receive() -> Message:
        for message in waiting:
            return message
        drained.set()
        return await asyncio.Future()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        if messages[-1]["type"] != "http.disconnect":
            await drained.wait()
        else:  # the watcher stops at the disconnection, without asking for more
            await asyncio.sleep(0)
        waiting_for_it = of_job("job-1")
        assert waiting_for_it is not None
        marked.append(waiting_for_it.outcome == "cancelled")

    async def send(_: Message) -> None:
        pass

    await Calls(Departures(app), ["/generate"])(SCOPE, receive, send)
    return marked[0]


BODY = [
    {"type": "http.request", "body": b"{", "more_body": True},
    {"type": "http.request", "body": b"}", "more_body": False},
]


async def test_a_caller_who_leaves_has_its_job_skipped() -> None:
    assert await call([*BODY, {"type": "http.disconnect"}])


async def test_a_caller_who_stays_is_painted_for() -> None:
    assert not await call(BODY)


async def test_a_job_is_forgotten_when_its_call_has_ended() -> None:
    await call([*BODY, {"type": "http.disconnect"}])
    assert of_job("job-1") is None
    assert not await call(BODY)
