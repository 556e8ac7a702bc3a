"""Bounded admission: so many requests in work, so many waiting, and an honest refusal beyond that.

Each line has its own, so that one whose model hangs takes no place of the other. Places are shared fairly between keys,
and between the users of a key: who has least in work enters next, and where all places are taken the newest request of
whoever has most makes room for one of whoever has least.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bentos.gateway.errors import ApiError, overloaded
from bentos.tracing import tracer
from components.config import Line
from components.runtimes.fairness import holders, standing
from monitoring import metrics

SMOOTHING = 0.1  # weight of the newest request in the moving average of time in work
MAX_RETRY_AFTER = 60  # seconds


@dataclass(eq=False)
class _Place:
    """A request; `turn` is set when it may enter, to an `ApiError` where it has to make room."""

    share: str
    turn: asyncio.Future[None]


class Admission:
    """At most `concurrency` requests of a line in work and `queue` waiting; one too many is refused with 429 and
    `Retry-After`."""

    def __init__(self, line: Line, concurrency: int, queue: int) -> None:
        self._line, self._concurrency, self._queue = line, concurrency, queue
        self._working: list[_Place] = []
        self._waiting: list[_Place] = []
        self._seconds = 1.0  # moving average of a request's time in work
        metrics.QUEUE_LIMIT.labels(line).set(queue)

    @asynccontextmanager
    async def slot(self, deadline: float | None = None, share: str = "") -> AsyncIterator[None]:
        """Hold a place for the time of the block, after waiting for it until `deadline` (by the loop's clock).

        `share`: of whom it is, as a key, a slash and a user of it. Raises a 429 `ApiError` where no more may wait, when
        it has to make room for others, and at the deadline.
        """
        if len(self._working) >= self._concurrency and len(self._waiting) >= self._queue:
            self._make_room(share)
        place = _Place(share, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        self._admit()
        await self._wait(place, deadline)
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds += SMOOTHING * (time.monotonic() - began - self._seconds)
            self._leave(place)

    async def _wait(self, place: _Place, deadline: float | None) -> None:
        metrics.QUEUE_DEPTH.labels(self._line).inc()
        try:
            with tracer.start_as_current_span("admission"):
                async with asyncio.timeout_at(deadline):
                    await place.turn
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
            if place in self._working:  # its turn came at the moment in which it was given up
                self._leave(place)
            if isinstance(error, TimeoutError):
                raise self._refusal() from error
            raise
        finally:
            metrics.QUEUE_DEPTH.labels(self._line).dec()

    def _admit(self) -> None:
        """Let in whoever has least in work, and of equals who came first, while there are places."""
        while self._waiting and len(self._working) < self._concurrency:
            in_work = _held(self._working)
            place = min(self._waiting, key=lambda place: standing(in_work, place.share))
            self._waiting.remove(place)
            if not place.turn.done():
                self._working.append(place)
                metrics.IN_WORK.labels(self._line).inc()
                place.turn.set_result(None)

    def _leave(self, place: _Place) -> None:
        self._working.remove(place)
        metrics.IN_WORK.labels(self._line).dec()
        self._admit()

    def _make_room(self, share: str) -> None:
        """Refuse the newest waiting request of whoever has most places; raises where nobody has more than `share`."""
        held = _held([*self._working, *self._waiting])
        owing = [place for place in reversed(self._waiting) if _owes(held, place.share, share)]
        if not owing:
            raise self._refusal()
        place = max(owing, key=lambda place: standing(held, place.share))
        self._waiting.remove(place)
        if not place.turn.done():
            place.turn.set_exception(self._refusal())

    def _refusal(self) -> ApiError:
        """Asks to come back when the present queue should have drained."""
        drained = self._seconds * (len(self._waiting) + 1) / self._concurrency
        retry = min(max(math.ceil(drained), 1), MAX_RETRY_AFTER)
        busy = f"{len(self._working)} {self._line} requests in work and {len(self._waiting)} waiting"
        return overloaded(f"{busy}: try in {retry} s", retry)


def _held(places: Iterable[_Place]) -> Counter[str]:
    return Counter(holder for place in places for holder in holders(place.share))


def _owes(held: Counter[str], theirs: str, ours: str) -> bool:
    """Whether one place less for them and one more for us brings us nearer: between keys, within a key its users."""
    (their_key, their_user), (our_key, our_user) = standing(held, theirs), standing(held, ours)
    if theirs.partition("/")[0] == ours.partition("/")[0]:
        return their_user > our_user + 1
    return their_key > our_key + 1
