"""A candidate's turn: asked first, within its budget; where it fails before its first byte, the champion answers.

The user sees no error, and the failure is counted, recorded under the request's id and told to the breaker; but not
where the champion fails at the same request in the same way: whoever may send requests could sink any candidate by some
that no model can answer.
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
from components.events.schema import BOTH, Trial
from monitoring import metrics

T = TypeVar("T")
Whom = Literal["user", "shadow"]
REFUSED = "refused"  # by the model, as too long: the champion decides whether the request or the candidate is at fault
BAD_OUTPUT = "bad_output"
OWN = ("timeout", "model_unavailable")  # failures that hardly lie in the request


class BadOutputError(Exception):
    """The candidate has answered, and with nothing."""


@dataclass
class Attempt:
    """One slot's try at an answer."""

    slot: Slot
    on_trial: bool = False
    begun: bool = False
    bad: bool = False
    failed: tuple[str, float] | None = None  # why and after how many seconds, where the champion may answer instead
    deadline: asyncio.Timeout | None = None

    def begin(self) -> None:
        """The first byte goes out: from now on nobody else can answer, and only the request's timeout holds."""
        self.begun = True
        if self.deadline is not None:
            self.deadline.reschedule(None)

    def require(self, good: bool) -> None:
        """Refuse a candidate's bad output; a champion's is given as it is."""
        self.bad = not good
        if self.on_trial and self.bad:
            raise BadOutputError


Call = Callable[[Attempt], Awaitable[T]]


async def answer(gateway: Gateway, exchange: Exchange, route: Route, call: Call[T]) -> T:
    """What the asked slot answers, or the champion's after a candidate that failed; raises what the last one raised."""
    if route.trial is None:
        began = time.monotonic()
        result = await call(Attempt(route.slot))
        gateway.traffic.answered(exchange.line, exchange.size, time.monotonic() - began)
        return result
    attempt = Attempt(route.slot, on_trial=True)
    try:
        return await tried(gateway, exchange, route.trial, "user", attempt, call)
    except Exception as error:
        if attempt.failed is None:
            raise
        log.warning("%s: the champion answers instead of %s (%s)", exchange.id, exchange.deployment, reason_of(error))
    return await _instead(gateway, exchange, route.trial, attempt.failed, call)


async def _instead(
    gateway: Gateway, exchange: Exchange, candidate: Candidate, failed: tuple[str, float], call: Call[T]
) -> T:
    """The champion's answer to a request at which the candidate failed; then that failure counts, unless both did."""
    reason, seconds = failed
    attempt, alike = Attempt(candidate.champion), False
    try:
        result = await call(attempt)
        alike = attempt.bad and reason == BAD_OUTPUT
        return result
    except ApiError as error:
        alike = reason_of(error) == reason and not error.unanswered
        raise
    except asyncio.CancelledError:  # who sends what nobody can answer may also leave before that is seen
        alike = reason not in OWN
        raise
    finally:
        note(gateway, exchange, candidate, "user", BOTH if alike else reason, seconds)


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
    """What the candidate answers. However that ends, it is noted, or left in `attempt.failed` for `_instead`."""
    began = time.monotonic()
    reason = ""
    try:
        budget = gateway.traffic.budget(exchange.line, exchange.size, gateway.serving.request_timeout)
        async with asyncio.timeout(budget) as deadline:
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
        if reason in ("", "cancelled") and gateway.traffic.slow(exchange.line, exchange.size, seconds):
            reason = "slow"
        if reason in ("", "cancelled", "slow") or attempt.begun or whom == "shadow":
            note(gateway, exchange, candidate, whom, reason, seconds)
        else:
            attempt.failed = reason, seconds


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

    if reason != BOTH and gateway.traffic.breaker(candidate.release).note(reason):
        metrics.BREAKERS_OPENED.labels(deployment, reason).inc()
        log.error("%s gets no more traffic: its breaker opened (%s)", deployment, reason)
        gateway.background.record(gateway.events, trial(candidate.release, "breaker"))
    if reason or whom == "shadow":
        gateway.background.record(gateway.events, trial(exchange.id, "failure" if whom == "user" else "shadow"))


def reason_of(error: Exception) -> str:
    """A failure in one word, of few: a label in Prometheus."""
    if isinstance(error, BadOutputError):
        return BAD_OUTPUT
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ApiError):
        return REFUSED if error.status == 400 else error.code or "error"
    return "error"
