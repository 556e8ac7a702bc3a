"""Bounded admission: so many requests in work, so many waiting in order, and an honest refusal beyond that.

Each line has its own, so that one whose model hangs takes no place of the other.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bentos.gateway.errors import ApiError, overloaded
from bentos.tracing import tracer
from components.config import Line
from monitoring import metrics

SMOOTHING = 0.1  # weight of the newest request in the moving average of time in work
MAX_RETRY_AFTER = 60  # seconds


class Admission:
    """At most `concurrency` requests of a line in work and `queue` waiting; the next is refused with 429 and
    `Retry-After`."""

    def __init__(self, line: Line, concurrency: int, queue: int) -> None:
        self._line, self._concurrency, self._queue = line, concurrency, queue
        self._slots = asyncio.Semaphore(concurrency)
        self._waiting = 0
        self._working = 0
        self._seconds = 1.0  # moving average of a request's time in work
        metrics.QUEUE_LIMIT.labels(line).set(queue)

    @asynccontextmanager
    async def slot(self, deadline: float | None = None) -> AsyncIterator[None]:
        """Hold a place for the time of the block, after waiting for it in order until `deadline` (by the loop's clock).

        Raises a 429 `ApiError` at once where no more may wait, and at the deadline.
        """
        if self._slots.locked() and self._waiting >= self._queue:
            raise self._refusal()
        await self._wait(deadline)
        began = time.monotonic()
        self._working += 1
        metrics.IN_WORK.labels(self._line).inc()
        try:
            yield
        finally:
            self._working -= 1
            metrics.IN_WORK.labels(self._line).dec()
            self._seconds += SMOOTHING * (time.monotonic() - began - self._seconds)
            self._slots.release()

    async def _wait(self, deadline: float | None) -> None:
        self._waiting += 1
        metrics.QUEUE_DEPTH.labels(self._line).inc()
        try:
            with tracer.start_as_current_span("admission"):
                async with asyncio.timeout_at(deadline):
                    await self._slots.acquire()
        except TimeoutError as error:
            raise self._refusal() from error
        finally:
            self._waiting -= 1
            metrics.QUEUE_DEPTH.labels(self._line).dec()

    def _refusal(self) -> ApiError:
        retry = self._retry_after()
        busy = f"{self._working} {self._line} requests in work and {self._waiting} waiting"
        return overloaded(f"{busy}: try in {retry} s", retry)

    def _retry_after(self) -> int:
        """Whole seconds until the present queue should have drained, at least 1."""
        drained = self._seconds * (self._waiting + 1) / self._concurrency
        return min(max(math.ceil(drained), 1), MAX_RETRY_AFTER)
