"""One request: who asks, and its record: `accepted` before the first byte of its answer, `finished` before the last."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from bentos.calls import CLIENT_GONE, current
from bentos.gateway.admission import Admission
from bentos.gateway.auth import Keys
from bentos.gateway.background import Background
from bentos.gateway.errors import ApiError, events_unavailable, timed_out
from bentos.gateway.traffic import RetryBudget, Traffic
from bentos.gateway.upstream import Upstream
from components.config import Feedback, Line, Serving, Variant
from components.events.database import DatabaseError
from components.events.schema import OTHER, Accepted, Finished, Outcome
from components.events.store import EventStore
from components.experiments.assignment import Assignment, inside, variant_of
from monitoring import metrics

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


@dataclass(frozen=True)
class Gateway:
    """What every endpoint needs; made at start-up, closed at shutdown."""

    serving: Serving
    feedback: Feedback
    keys: Keys
    admission: Mapping[Line, Admission]
    upstream: Upstream
    events: EventStore
    traffic: Traffic
    background: Background
    retries: RetryBudget = field(default_factory=RetryBudget)
    reacting: Counter[str] = field(default_factory=Counter)  # by response, the reactions in work


@dataclass(frozen=True)
class Caller:
    """Who asks, and which variant of an experiment answers them (None outside of one).

    `share`: whose part of the model's work a request takes: a key, a slash and a user of it.
    """

    user_key: str
    segments: Mapping[str, str] = field(default_factory=dict)
    assignment: Assignment | None = None
    variant: Variant | None = None
    share: str = ""


def identify(
    gateway: Gateway,
    line: Line,
    api_key: str,
    user: str | None,
    metadata: Mapping[str, str] | None,
    chosen: AbstractSet[str] = frozenset(),
) -> Caller:
    """Who asks, and their variant in the experiment of the line, by the weights of this moment.

    `chosen`: parameters that the request sets itself. Raises a 401 `ApiError` for a key that was withdrawn meanwhile.
    """
    user_key = gateway.keys.user_key(user, api_key)
    stored = segments(gateway.feedback, metadata)
    experiment = inside(gateway.traffic.experiments, line, user_key, stored, chosen)
    assignment, variant = variant_of(experiment, user_key)
    # First of a key, as its holder may name as many users as they like.
    share = f"{gateway.keys.user_key(None, api_key)}/{user_key}"
    return Caller(user_key, stored, assignment, variant, share)


def segments(rules: Feedback, metadata: Mapping[str, str] | None) -> dict[str, str]:
    """What is stored of a request's metadata: keys and values that the parameters list, `other` for other values."""
    given = metadata or {}
    listed = {key: values for key, values in rules.segments.items() if key in given}
    return {key: given[key] if given[key] in values else OTHER for key, values in listed.items()}


@dataclass
class Result:
    """What an exchange produced, filled in by its endpoint, by the names of `Finished`; `answered_by` is the deployment
    that answers, once it does."""

    answered_by: str = ""
    output: str = ""
    batch_size: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    adapter: str = ""
    cut: bool = False


@dataclass(frozen=True)
class Exchange:
    """Who asks whom for what.

    `deployment` is the one that is asked; where that is a candidate that fails, the champion answers. `prefix`: of the
    id. `size`: one of few classes of the line's requests, by how much work they are.
    """

    line: Line
    model: str
    caller: Caller
    deployment: str
    prompt: str
    prefix: str
    messages: int = 1
    size: int = 0
    created: float = field(default_factory=time.time)  # epoch seconds
    began: float = field(default_factory=time.monotonic)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def id(self) -> str:
        return f"{self.prefix}-{self.token}"

    @property
    def assignment(self) -> Assignment:
        """The caller's, or that of no experiment."""
        return self.caller.assignment or Assignment("", "", 1.0)

    def headers(self, deployment: str | None = None) -> dict[str, str]:
        """In a name, what no header can carry is percent-encoded: one that an older version let in fails no request."""
        named = {"x-deployment": deployment or self.deployment}
        if self.caller.assignment:
            named["x-variant"] = self.assignment.variant
        return {"x-request-id": self.id} | {header: quote(name, safe=PRINTABLE) for header, name in named.items()}

    def accepted(self) -> Accepted:
        return Accepted(
            request_id=self.id,
            time=self.created,
            user_key=self.caller.user_key,
            line=self.line,
            deployment=self.deployment,
            model=self.model,
            **vars(self.assignment),
            segments=json.dumps(self.caller.segments, sort_keys=True),
            messages=self.messages,
        )

    def finished(self, result: Result, outcome: Outcome, status: int) -> Finished:
        """As of now."""
        latency = time.monotonic() - self.began
        return Finished(
            request_id=self.id,
            time=self.created + latency,
            latency_s=latency,
            outcome=outcome,
            status=status,
            prompt=self.prompt,
            **vars(result),
        )


@contextmanager
def events_required() -> Iterator[None]:
    """Turn a database that fails into a 503 `ApiError`, because an answer that is not on record must not be given."""
    try:
        yield
    except DatabaseError as error:
        metrics.EVENT_FAILURES.inc()
        raise events_unavailable() from error


@asynccontextmanager
async def recorded(gateway: Gateway, exchange: Exchange) -> AsyncIterator[Result]:
    """Admit, record, run the block and record its end, however it ends; all within the request timeout."""
    if call := current():
        call.id, call.line, call.deployment = exchange.id, exchange.line, exchange.deployment
        call.variant = exchange.assignment.variant
    deadline = asyncio.get_running_loop().time() + gateway.serving.request_timeout
    async with gateway.admission[exchange.line].slot(deadline, exchange.caller.share):
        result, begun = Result(), False
        try:
            with events_required():
                await gateway.events.append(exchange.accepted())
            begun = True
            async with asyncio.timeout_at(deadline):
                yield result
        except asyncio.CancelledError:
            # Shielded: the cancellation that brought us here must not also lose the record.
            await asyncio.shield(_finish(gateway, exchange, result, Outcome.CANCELLED, CLIENT_GONE))
            raise
        except TimeoutError as error:
            await _finish(gateway, exchange, result, Outcome.ERROR, 504)
            raise _on_record(timed_out(gateway.serving.request_timeout), exchange) from error
        except Exception as error:
            if not begun:  # an end without a beginning is no record, and would wait for the same database again
                raise
            status = error.status if isinstance(error, ApiError) else 500
            await _finish(gateway, exchange, result, Outcome.ERROR, status)
            if isinstance(error, ApiError):
                _on_record(error, exchange)
            raise
        await _finish(gateway, exchange, result, Outcome.OK, 200)


def _on_record(error: ApiError, exchange: Exchange) -> ApiError:
    """The error with the id under which it is on record."""
    error.headers = exchange.headers() | error.headers
    error.on_record = True
    return error


async def _finish(gateway: Gateway, exchange: Exchange, result: Result, outcome: Outcome, status: int) -> None:
    finished = exchange.finished(result, outcome, status)
    if call := current():
        call.outcome, call.status, call.batch_size = outcome, status, result.batch_size
        call.deployment = result.answered_by or exchange.deployment
    with events_required():
        await gateway.events.append(finished)
    # What could not be stored is refused instead, and counted there.
    _count(exchange, finished, gateway.serving.late_seconds[exchange.line])


def _count(exchange: Exchange, finished: Finished, late: float) -> None:
    """`late`: seconds from which an answer is."""
    line, outcome, latency = exchange.line, finished.outcome, finished.latency_s
    experiment, variant = exchange.assignment.experiment, exchange.assignment.variant
    metrics.REQUESTS.labels(line, str(finished.status), outcome, experiment, variant).inc()
    # Who gave up later than that would have been late; who left earlier says nothing of how long it would have taken.
    if outcome is Outcome.OK or (outcome is Outcome.CANCELLED and latency > late):
        metrics.SECONDS.labels(line).observe(latency)
        metrics.LATE.labels(line).inc(latency > late)
    if outcome is Outcome.OK and finished.prompt_tokens:  # an API may count none
        metrics.COUNTED_SECONDS.inc(latency)
    if finished.batch_size:
        metrics.BATCH_SIZE.labels(line).observe(finished.batch_size)
    metrics.TOKENS.labels("prompt").inc(finished.prompt_tokens)
    metrics.TOKENS.labels("completion").inc(finished.completion_tokens)
