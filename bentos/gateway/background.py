"""Work that no user waits for: copies of requests for a candidate in shadow, and records of how it did.

Bounded: a copy that finds no place is dropped and counted. Copies are cancelled at shutdown, records are waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from bentos.gateway.traffic import log
from components.events.database import EventStoreError
from components.events.schema import Trial
from components.events.store import EventStore
from components.experiments.assignment import uniform
from monitoring import metrics

COPIES = 2  # at a time: a candidate may share the champion's cores


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

    def record(self, events: EventStore, trial: Trial) -> None:
        _keep(self._records, _append(events, trial))

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


async def _append(events: EventStore, trial: Trial) -> None:
    try:
        await events.append(trial)
    except EventStoreError as error:  # the user has their answer, and the counters have it
        log.error("%s: not recorded for the driver: %s", trial.request_id, error)
