"""Bounded admission: so many requests in work, so many waiting in order, and an honest refusal beyond that."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bentos.gateway.errors import overloaded
from bentos.tracing import tracer
from monitoring import metrics

SMOOTHING = 0.1  # weight of the newest request in the moving average of time in work
MAX_RETRY_AFTER = 60  # seconds


class Admission:
    """At most `concurrency` requests in work and `queue` waiting; the next is refused with 429 and `Retry-After`."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._concurrency, self._queue = concurrency, queue
        self._slots = asyncio.Semaphore(concurrency)
        self._waiting = 0
        self._working = 0
        self._seconds = 1.0  # moving average of a request's time in work
        metrics.QUEUE_LIMIT.set(queue)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a place for the time of the block, after waiting for it in order; raises a 429 `ApiError` when full."""
        if self._slots.locked() and self._waiting >= self._queue:
            retry = self._retry_after()
            raise overloaded(f"{self._working} requests in work and {self._waiting} waiting: try in {retry} s", retry)
        await self._wait()
        began = time.monotonic()
        self._working += 1
        metrics.IN_WORK.inc()
        try:
            yield
        finally:
            self._working -= 1
            metrics.IN_WORK.dec()
            self._seconds += SMOOTHING * (time.monotonic() - began - self._seconds)
            self._slots.release()

    async def _wait(self) -> None:
        self._waiting += 1
        metrics.QUEUE_DEPTH.inc()
        try:
            with tracer.start_as_current_span("admission"):
                await self._slots.acquire()
        finally:
            self._waiting -= 1
            metrics.QUEUE_DEPTH.dec()

    def _retry_after(self) -> int:
        """Whole seconds until the present queue should have drained, at least 1."""
        drained = self._seconds * (self._waiting + 1) / self._concurrency
        return min(max(math.ceil(drained), 1), MAX_RETRY_AFTER)
