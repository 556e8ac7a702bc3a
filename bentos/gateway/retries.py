"""A second try of a call to a champion that failed before its first byte, as long as few calls need one.

The budget is a token bucket, as in gRPC and Finagle: each call puts in a tenth of a token, each retry takes a whole
one. So retries are at most a tenth of the calls, and a line that is down is not asked twice as often for it. A
candidate's call is not repeated, as the champion answers instead. No hedging (a second call while the first is out):
it would buy tail latency with twice the work of a model that is slow because it has too much to do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bentos.gateway.errors import ApiError
from bentos.gateway.exchange import Gateway
from bentos.gateway.trial import Attempt
from bentos.gateway.upstream import Slot
from monitoring import metrics

PAUSE_SECONDS = (0.05, 0.25)  # before the same place is asked again, at random so that not all come back at once

T = TypeVar("T")


async def asked(gateway: Gateway, attempt: Attempt, ask: Callable[[Slot], Awaitable[T]]) -> T:
    """What `ask` brings from the attempt's slot or, after a failure that may pass, from a place that serves the same.

    Runs within the request's timeout, and so does the retry.
    """
    line = attempt.slot.line
    gateway.retries.deposit(line)
    try:
        return await ask(attempt.slot)
    except ApiError as error:
        if attempt.on_trial or attempt.begun or not error.unanswered or not gateway.retries.withdraw(line):
            raise
    other = gateway.upstream.twin(attempt.slot)
    if other is None:
        await asyncio.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311
    metrics.RETRIES.labels(line).inc()
    return await ask(other or attempt.slot)
