"""Requests of a gateway that was killed: they end on record as lost, so that nothing waits for them for ever."""

from __future__ import annotations

import asyncio
import logging
import time

from components.events.database import EventStoreError
from components.events.store import EventStore

SWEEP_SECONDS = 60.0
GRACE_SECONDS = 60.0  # after a request's timeout, for its end to be written and for clocks of several gateways
log = logging.getLogger("bentoml.gateway")


async def reap(events: EventStore, request_timeout: float) -> None:
    """At the start, and then each minute, end what no gateway can still be working on, until cancelled."""
    while True:
        try:
            count = await events.finish_lost(time.time() - request_timeout - GRACE_SECONDS)
        except EventStoreError as error:
            log.warning("%s", error)
        else:
            if count:
                log.warning("%d requests never ended: their gateway died; they are on record as lost", count)
        await asyncio.sleep(SWEEP_SECONDS)
