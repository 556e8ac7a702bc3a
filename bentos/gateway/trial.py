"""A candidate's turn: asked first, within its budget; where it fails before its first byte, the champion answers.

The user sees no error, and the failure is counted, recorded under the request's id and told to the breaker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

from bentos.gateway.errors import ApiError
from bentos.gateway.exchange import Exchange, Gateway
from bentos.gateway.traffic import Candidate, Route, log
from bentos.gateway.upstream import Slot
from components.events.schema import Trial
from monitoring import metrics

T = TypeVar("T")
Whom = Literal["user", "shadow"]
REFUSED = "refused"  # by the model, as too long: the champion decides whether the request or the candidate is at fault


class BadOutputError(Exception):
    """The candidate has answered, and with nothing."""


@dataclass
class Attempt:
    """One slot's try at an answer."""

    slot: Slot
    on_trial: bool = False
    begun: bool = False
    deadline: asyncio.Timeout | None = None

    def begin(self) -> None:
        """The first byte goes out: from now on nobody else can answer, and only the request's timeout holds."""
        self.begun = True
        if self.deadline is not None:
            self.deadline.reschedule(None)

    def require(self, good: bool) -> None:
        """Refuse a candidate's bad output; a champion's is given as it is."""
        if self.on_trial and not good:
            raise BadOutputError


Call = Callable[[Attempt], Awaitable[T]]


async def answer(gateway: Gateway, exchange: Exchange, route: Route, call: Call[T]) -> T:
    """What the asked slot answers, or the champion's after a candidate that failed; raises what the last one raised."""
    if route.trial is None:
        began = time.monotonic()
        result = await call(Attempt(route.slot))
        gateway.traffic.answered(exchange.line, time.monotonic() - began)
        return result
    attempt = Attempt(route.slot, on_trial=True)
    try:
        return await tried(gateway, exchange, route.trial, "user", attempt, call)
    except Exception as error:
        if attempt.begun:
            raise
        log.warning("%s: the champion answers instead of %s (%s)", exchange.id, exchange.deployment, reason_of(error))
    return await call(Attempt(route.trial.champion))


def shadow(gateway: Gateway, exchange: Exchange, route: Route, call: Call[T]) -> None:
    """Send the candidate in shadow a copy of a request that the champion has answered, if it is in the sample."""
    if route.shadow and route.candidate and gateway.background.wants(exchange.id):
        gateway.background.copy(_copied(gateway, exchange, route.candidate, call))


async def _copied(gateway: Gateway, exchange: Exchange, candidate: Candidate, call: Call[T]) -> None:
    with suppress(Exception):  # noted already, and nobody waits for it
        await tried(gateway, exchange, candidate, "shadow", Attempt(candidate.slot, on_trial=True), call)


async def tried(
    gateway: Gateway,
    exchange: Exchange,
    candidate: Candidate,
    whom: Whom,
    attempt: Attempt,
    call: Call[T],
) -> T:
    """What the candidate answers; however that ends, it is noted."""
    began = time.monotonic()
    reason = ""
    try:
        async with asyncio.timeout(gateway.traffic.budget(exchange.line, gateway.serving.request_timeout)) as deadline:
            attempt.deadline = deadline
            return await call(attempt)
    except asyncio.CancelledError:
        reason = "cancelled"
        raise
    except Exception as error:
        reason = reason_of(error)
        raise
    finally:
        seconds = time.monotonic() - began
        # A user who left after waiting too long, or whose stream stood still, says the same as a late answer.
        if reason in ("", "cancelled") and gateway.traffic.slow(exchange.line, seconds):
            reason = "slow"
        note(gateway, exchange, candidate, whom, reason, seconds)


def note(
    gateway: Gateway,
    exchange: Exchange,
    candidate: Candidate,
    whom: Whom,
    reason: str,
    seconds: float,
) -> None:
    """Count a candidate's call, tell the breaker, and have what the release's driver needs written down."""
    deployment = candidate.info.deployment
    metrics.CANDIDATE.labels(deployment, whom, reason).inc()
    metrics.CANDIDATE_SECONDS.labels(deployment).observe(seconds)
    if reason in ("cancelled", REFUSED):
        return

    def trial(identifier: str, kind: Literal["failure", "shadow", "breaker"]) -> Trial:
        return Trial(
            request_id=identifier,
            time=time.time(),
            kind=kind,
            line=exchange.line,
            deployment=deployment,
            reason=reason,
            latency_s=seconds,
        )

    if gateway.traffic.breaker(candidate.release).note(reason):
        metrics.BREAKERS_OPENED.labels(deployment, reason).inc()
        log.error("%s gets no more traffic: its breaker opened (%s)", deployment, reason)
        gateway.background.record(gateway.events, trial(candidate.release, "breaker"))
    if reason or whom == "shadow":
        gateway.background.record(gateway.events, trial(exchange.id, "failure" if whom == "user" else "shadow"))


def reason_of(error: Exception) -> str:
    """A failure in one word, of few: a label in Prometheus."""
    if isinstance(error, BadOutputError):
        return "bad_output"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ApiError):
        return REFUSED if error.status == 400 else error.code or "error"
    return "error"
