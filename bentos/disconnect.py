"""Work that ends when its caller goes: one helper for every endpoint whose answer takes longer than its request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGone(Exception):  # noqa: N818 - not an error of ours
    """The caller disconnected and its work was cancelled; nobody is left to answer."""


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Result of `work`, which is cancelled (and awaited) if the caller disconnects first; then raises `ClientGone`.

    To be called after the request's body was read: `receive` then returns only at the disconnection.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnection(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for pending in (task, watcher):
            pending.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
