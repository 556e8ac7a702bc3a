"""Who answers a request: the slot that its route names, once more after a failure that may pass; and where that slot
is a candidate's and fails before its first byte, the champion's. For a champion that fails so, its route's fallback.

The user sees no error of a candidate. Its failure is counted, recorded under the request's id and told to the breaker;
but not where the champion fails at the same request in the same way: whoever may send requests could sink any candidate
by some that no model can answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from bentos.gateway.errors import ApiError
from bentos.gateway.exchange import Exchange, Gateway
from bentos.gateway.traffic import Candidate, Route, log
from bentos.gateway.upstream import Slot
from components.events.schema import CallKind, CandidateCall, Reason
from monitoring import metrics

T = TypeVar("T")
PAUSE_SECONDS = (0.05, 0.25)  # before the same place is asked again, at random so that not all come back at once
OWN = (Reason.TIMEOUT, Reason.UNAVAILABLE)  # failures that hardly lie in the request


class BadOutputError(Exception):
    """The candidate has answered, and with nothing."""


@dataclass
class Attempt:
    """One slot's try at an answer; `bad`: it came, and says nothing."""

    slot: Slot
    on_trial: bool = False
    begun: bool = False
    bad: bool = False
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
    """The answer of the route's slot, or the champion's after a candidate that failed; raises what the last one did."""
    candidate = route.answering_candidate
    if candidate is None:
        attempt, began = Attempt(route.slot), time.monotonic()
        try:
            result = await call(attempt)
        except ApiError as error:
            if route.fallback is None or attempt.begun or error.status < 500:
                raise
            log.warning("%s: an endpoint answers instead of %s (%s)", exchange.id, exchange.deployment, _reason(error))
            return await call(Attempt(route.fallback))
        gateway.traffic.note_champion(exchange.line, exchange.size, time.monotonic() - began)
        return result
    turn = _Turn(gateway, exchange, candidate)
    try:
        return await turn.take(call)
    except Exception as error:
        if turn.failure is None:
            raise
        reason = _reason(error)
        log.warning("%s: the champion answers instead of %s (%s)", exchange.id, exchange.deployment, reason)
    return await turn.fall_back(call, *turn.failure)


def shadow(gateway: Gateway, exchange: Exchange, route: Route, call: Call[T]) -> None:
    """Send the candidate in shadow a copy of a request that the champion has answered, if it is in the sample."""
    if route.shadow and route.candidate and gateway.background.wants(exchange.id):
        gateway.background.copy(_copy(_Turn(gateway, exchange, route.candidate, shadow=True), call))


async def call_with_retry(gateway: Gateway, attempt: Attempt, call: Callable[[Slot], Awaitable[T]]) -> T:
    """What the attempt's slot answers or, after a failure that may pass, a place that serves the same.

    The second call is within the request's timeout and the line's retry budget. A candidate's is not repeated, as the
    champion answers instead. No hedging (a second call while the first is out): it would buy tail latency with twice
    the work of a model that is slow because it has too much to do.
    """
    line = attempt.slot.line
    gateway.retries.deposit(line)
    try:
        return await call(attempt.slot)
    except ApiError as error:
        if attempt.on_trial or attempt.begun or not error.unanswered or not gateway.retries.withdraw(line):
            raise
    replica = gateway.upstream.replica(attempt.slot)
    if replica is None:
        await asyncio.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311
    metrics.RETRIES.labels(line).inc()
    return await call(replica or attempt.slot)


class _Turn:
    """A candidate's turn at one request; `failure`: its reason, and seconds, where the champion may answer instead."""

    def __init__(self, gateway: Gateway, exchange: Exchange, candidate: Candidate, *, shadow: bool = False) -> None:
        self._gateway, self._exchange, self._candidate, self._shadow = gateway, exchange, candidate, shadow
        self.failure: tuple[str, float] | None = None

    async def take(self, call: Call[T]) -> T:
        """The candidate's answer, whose first byte comes in time. However that ends, it is noted or left in
        `failure`."""
        traffic, line, size = self._gateway.traffic, self._exchange.line, self._exchange.size
        attempt, reason, began = Attempt(self._candidate.slot, on_trial=True), "", time.monotonic()
        try:
            patience = traffic.patience(line, size, self._gateway.serving.request_timeout)
            async with asyncio.timeout(patience) as attempt.deadline:
                return await call(attempt)
        except asyncio.CancelledError:
            reason = Reason.CANCELLED
            raise
        except Exception as error:
            reason = _reason(error)
            raise
        finally:
            seconds = time.monotonic() - began
            # A user who left after waiting too long, or whose stream stood still, says the same as a late answer.
            if reason in ("", Reason.CANCELLED) and traffic.is_slow(line, size, seconds):
                reason = Reason.SLOW
            if reason in ("", Reason.CANCELLED, Reason.SLOW) or attempt.begun or self._shadow:
                self._note(reason, seconds)
            else:
                self.failure = reason, seconds

    async def fall_back(self, call: Call[T], reason: str, seconds: float) -> T:
        """The champion's answer to the request at which the candidate failed; then that failure counts, unless both
        did."""
        attempt, alike = Attempt(self._candidate.champion), False
        try:
            result = await call(attempt)
            alike = attempt.bad and reason == Reason.BAD_OUTPUT
            return result
        except ApiError as error:
            alike = _reason(error) == reason and not error.unanswered
            raise
        except asyncio.CancelledError:  # who sends what nobody can answer may also leave before that is seen
            alike = reason not in OWN
            raise
        finally:
            self._note(Reason.BOTH if alike else reason, seconds)

    def _note(self, reason: str, seconds: float) -> None:
        """Count the call, tell the breaker, and have what the release's driver needs written down."""
        gateway, release, deployment = self._gateway, self._candidate.release, self._candidate.info.deployment
        metrics.CANDIDATE.labels(deployment, "shadow" if self._shadow else "user", reason).inc()
        metrics.CANDIDATE_SECONDS.labels(deployment).observe(seconds)
        if reason in (Reason.CANCELLED, Reason.REFUSED):
            return
        if reason != Reason.BOTH and gateway.traffic.breaker(release).note(reason):
            metrics.BREAKERS_OPENED.labels(deployment, reason).inc()
            log.error("%s gets no more traffic: its breaker opened (%s)", deployment, reason)
            self._record(release, CallKind.BREAKER, reason, seconds)
        if reason or self._shadow:
            kind = CallKind.SHADOW if self._shadow else CallKind.FAILURE
            self._record(self._exchange.id, kind, reason, seconds)

    def _record(self, identifier: str, kind: CallKind, reason: str, seconds: float) -> None:
        row = CandidateCall(
            request_id=identifier,
            time=time.time(),
            kind=kind,
            line=self._exchange.line,
            deployment=self._candidate.info.deployment,
            reason=reason,
            latency_s=seconds,
        )
        self._gateway.background.record(self._gateway.events, row)


async def _copy(turn: _Turn, call: Call[T]) -> None:
    with suppress(Exception):  # noted already, and nobody waits for it
        await turn.take(call)


def _reason(error: Exception) -> str:
    """A failure in one word, of few: a label in Prometheus."""
    if isinstance(error, BadOutputError):
        return Reason.BAD_OUTPUT
    if isinstance(error, TimeoutError):
        return Reason.TIMEOUT
    if isinstance(error, ApiError):
        return Reason.REFUSED if error.status == 400 else error.code or Reason.ERROR
    return Reason.ERROR
