"""Skips the work of callers that have gone: a batching dispatcher would paint for them all the same.

Pure ASGI middleware of the image Bento. It watches each call's connection once the body is read and remembers the job's
id (header `x-job-id`) when the caller disconnects first; the batch function asks `forget` before it paints.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.protocol import JOB_ID


class CancelledJobs:
    """Ids of waiting jobs whose callers have gone; an id leaves the set when its call ends."""

    _ids: ClassVar[set[str]] = set()

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    @classmethod
    def forget(cls, job: str) -> bool:
        """Whether `job` was cancelled; asked once per job."""
        cancelled = job in cls._ids
        cls._ids.discard(job)
        return cancelled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", []))
        job = headers.get(JOB_ID.encode(), b"").decode("latin-1")
        if scope["type"] != "http" or not job:
            return await self.app(scope, receive, send)
        watcher: asyncio.Task[None] | None = None

        async def watched() -> Message:
            nonlocal watcher
            message = await receive()
            if watcher is None and not message.get("more_body", False):
                watcher = asyncio.create_task(self._watch(receive, job))
            return message

        try:
            await self.app(scope, watched, send)
        finally:
            if watcher is not None:
                watcher.cancel()
            self.forget(job)

    async def _watch(self, receive: Receive, job: str) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._ids.add(job)
