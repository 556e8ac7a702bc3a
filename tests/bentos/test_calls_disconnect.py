"""Work that ends with its caller."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from bentos.calls import ClientGone, until_disconnect


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
