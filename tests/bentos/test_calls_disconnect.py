"""Work that ends with its caller, and the name by which it is found until then."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from bentos.calls import Calls, ClientGone, current, of_job, until_disconnect
from bentos.protocol import JOB_ID


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def gone() -> Message:
    return {"type": "http.disconnect"}


async def test_the_result_is_returned_while_the_caller_stays() -> None:
    async def work() -> str:
        return "done"

    assert await until_disconnect(never, work()) == "done"


async def test_work_is_cancelled_and_cleaned_up_before_the_caller_is_reported_gone() -> None:
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(ClientGone):
        await until_disconnect(gone, work())
    assert cleaned == [True]


async def test_an_error_of_the_work_is_the_callers_error() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await until_disconnect(never, work())


async def test_a_server_that_stops_cancels_the_work() -> None:
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(until_disconnect(never, work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


async def test_a_call_that_ends_leaves_its_job_to_a_later_call_of_the_same_name() -> None:
    ends = [asyncio.Event(), asyncio.Event()]
    calls = []

    async def paint(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(current())
        await ends[len(calls) - 1].wait()

    scope = {"type": "http", "method": "POST", "path": "/generate", "headers": [(JOB_ID.encode(), b"job-1")]}
    middleware, tasks = Calls(paint, ["/generate"]), []
    for _ in ends:
        tasks.append(asyncio.create_task(middleware(scope, never, never)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
    assert of_job("job-1") is calls[1] is not calls[0]
    ends[0].set()
    await tasks[0]
    assert of_job("job-1") is calls[1]
    ends[1].set()
    await tasks[1]
    assert of_job("job-1") is None
