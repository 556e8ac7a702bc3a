"""Which answers are to be computed again, what is kept of them until they have been, and what has come of it.

Chance alone decides, before anybody is asked: of each line the same share, whoever asks for what. What is kept is
written when the answer is there, and nobody waits for it; an answer that was not kept is one that is not rechecked.
Who computes is `flows/recheck.py`, elsewhere; here it is only told to Prometheus.
"""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import Engine

from bentos.gateway.exchange import Exchange, Gateway
from bentos.gateway.traffic import log
from bentos.protocol import ImageJob, Picture, TextJob, Trace
from components.events import rechecks
from components.events.database import DatabaseError
from components.events.schema import Sampled
from components.experiments.assignment import uniform
from components.lines import LINES
from components.releases import store
from monitoring import metrics

TELL_SECONDS = 60.0


def wants_recheck(gateway: Gateway, exchange: Exchange) -> bool:
    """Whether an answer is in the sample."""
    return uniform(exchange.id, "recheck") < gateway.serving.recheck


def sample(
    gateway: Gateway,
    exchange: Exchange,
    deployment: str,
    job: TextJob | ImageJob,
    answer: Trace | Picture,
    adapter: str = "",
) -> None:
    """Keep `answer`, which `deployment` gave, for whoever computes it again."""
    row = Sampled(
        request_id=exchange.id,
        time=time.time(),
        line=exchange.line,
        deployment=deployment,
        adapter=adapter,
        job=job.model_dump_json(),
        answer=answer.model_dump_json(),
    )
    gateway.background.record(gateway.events, row)


async def tell(engine: Engine) -> None:
    """Tell Prometheus each minute what has come of the answers that were kept, until cancelled."""
    while True:
        try:
            for line in LINES:
                gone = await asyncio.to_thread(store.gone, engine, line)
                seen = await asyncio.to_thread(rechecks.summary, engine, line, time.time(), gone)
                for verdict, number in seen.counts.items():
                    metrics.RECHECKED.labels(line, verdict.value).set(number)
                metrics.RECHECKED.labels(line, "waiting").set(seen.waiting)
                metrics.RECHECK_ERROR.labels(line).set(seen.error or 0.0)
        except DatabaseError as error:
            log.warning("%s", error)
        await asyncio.sleep(TELL_SECONDS)
