"""The middleware that marks the jobs of callers who left while their job waited."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from bentos.image.service import CancelledJobs

SCOPE: Scope = {"type": "http", "headers": [(b"x-job-id", b"job-1")]}


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
        marked.append(CancelledJobs.forget("job-1"))

    async def send(_: Message) -> None:
        pass

    await CancelledJobs(app)(SCOPE, receive, send)
    return marked[0]


BODY = [
    {"type": "http.request", "body": b"{", "more_body": True},
    {"type": "http.request", "body": b"}", "more_body": False},
]


async def test_a_caller_who_leaves_has_its_job_skipped() -> None:
    assert await call([*BODY, {"type": "http.disconnect"}])


async def test_a_caller_who_stays_is_painted_for() -> None:
    assert not await call(BODY)


async def test_an_id_is_forgotten_when_its_call_has_ended() -> None:
    await call([*BODY, {"type": "http.disconnect"}])
    assert not await call(BODY)
