"""Work that no user waits for: copies of requests for a candidate in shadow, records of how it did, and the end of
requests whose gateway was killed.

Bounded: a copy that finds no place is dropped and counted. Copies are cancelled at shutdown, records are waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from bentos.gateway.traffic import log
from components.events.database import DatabaseError
from components.events.schema import Event
from components.events.store import EventStore
from components.experiments.assignment import uniform
from monitoring import metrics

COPIES = 2  # at a time: a candidate may share the champion's cores
SWEEP_SECONDS = 60.0
GRACE_SECONDS = 60.0  # after a request's timeout, for its end to be written and for clocks of several gateways


class Background:
    """`share` of requests are offered to a candidate in shadow."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._copies: set[asyncio.Task[None]] = set()
        self._records: set[asyncio.Task[None]] = set()

    def wants(self, request_id: str) -> bool:
        """Whether a request is in the sample and there is a place for its copy."""
        if uniform(request_id, "shadow") >= self._share:
            return False
        if len(self._copies) >= COPIES:
            metrics.SHADOWS_DROPPED.inc()
            return False
        return True

    def copy(self, work: Coroutine[Any, Any, None]) -> None:
        _keep(self._copies, work)

    def record(self, events: EventStore, event: Event) -> None:
        _keep(self._records, _append(events, event))

    async def close(self) -> None:
        """To be called before the event store is closed."""
        for task in self._copies:
            task.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)
        await asyncio.gather(*self._records, return_exceptions=True)


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)  # the loop itself holds tasks only weakly
    task.add_done_callback(tasks.discard)


async def _append(events: EventStore, event: Event) -> None:
    try:
        await events.append(event)
    except DatabaseError as error:  # the user has their answer, and the counters have it
        log.error("%s: %s is not recorded: %s", event.request_id, type(event).__name__, error)


async def reap(events: EventStore, request_timeout: float) -> None:
    """At the start, and then each minute, end what no gateway can still be working on, until cancelled: nothing is to
    wait for it for ever."""
    while True:
        try:
            count = await events.finish_lost(time.time() - request_timeout - GRACE_SECONDS)
        except DatabaseError as error:
            log.warning("%s", error)
        else:
            if count:
                log.warning("%d requests never ended: their gateway died; they are on record as lost", count)
        await asyncio.sleep(SWEEP_SECONDS)
