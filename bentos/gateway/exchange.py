"""One admitted request, on record: `accepted` before the first byte of its answer, `finished` before the last."""

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
from bentos.gateway.budget import RetryBudget
from bentos.gateway.errors import ApiError, events_unavailable, timed_out
from bentos.gateway.traffic import Traffic
from bentos.gateway.upstream import Upstream
from components.config import Feedback, Line, Serving, Variant
from components.events.database import EventStoreError
from components.events.schema import OTHER, Accepted, Event, Finished, Outcome
from components.events.store import EventStore
from components.experiments.assignment import Assignment, inside, served
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
class Exchange:
    """Who asks whom for what, and which variant of an experiment answers (None outside of it).

    `deployment` is the one that is asked; where that is a candidate that fails, the champion answers. `size`: one of
    few classes of the line's requests, by how much work they are. `share`: of whom it is, where shares of the work are
    fair: a key, a slash and a user of it.
    """

    line: Line
    model: str
    user_key: str
    deployment: str
    prompt: str
    assignment: Assignment | None
    prefix: str
    segments: Mapping[str, str] = field(default_factory=dict)
    messages: int = 1
    size: int = 0
    share: str = ""
    created: float = field(default_factory=time.time)  # epoch seconds
    began: float = field(default_factory=time.monotonic)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def id(self) -> str:
        return f"{self.prefix}-{self.token}"

    @property
    def experiment(self) -> str:
        return self.assignment.experiment if self.assignment else ""

    @property
    def variant(self) -> str:
        return self.assignment.variant if self.assignment else ""

    def headers(self, deployment: str | None = None) -> dict[str, str]:
        """In a name, what no header can carry is percent-encoded: one that an older version let in fails no request."""
        named = {"x-deployment": deployment or self.deployment} | (
            {"x-variant": self.variant} if self.assignment else {}
        )
        return {"x-request-id": self.id} | {header: quote(name, safe=PRINTABLE) for header, name in named.items()}

    def accepted(self) -> Accepted:
        assigned = self.assignment or Assignment("", "", 1.0)
        return Accepted(
            request_id=self.id,
            time=self.created,
            user_key=self.user_key,
            line=self.line,
            deployment=self.deployment,
            model=self.model,
            experiment=assigned.experiment,
            variant=assigned.variant,
            propensity=assigned.propensity,
            segments=json.dumps(self.segments, sort_keys=True),
            messages=self.messages,
        )


@dataclass
class Result:
    """What an exchange produced, filled in by its endpoint; `deployment` is the one that answers, once it does."""

    deployment: str = ""
    output: str = ""
    batch_size: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    adapter: str = ""
    cut: bool = False


def assigned(
    gateway: Gateway, line: Line, user_key: str, kept: Mapping[str, str], chosen: AbstractSet[str] = frozenset()
) -> tuple[Assignment, Variant] | tuple[None, None]:
    """A user's variant in the experiment of the line that their request is in, by the weights of this moment."""
    return served(inside(gateway.traffic.experiments, line, user_key, kept, chosen), user_key)


def share_of(gateway: Gateway, api_key: str, user_key: str) -> str:
    """Of whom a request is: first of a key, as its holder may name as many users as they like."""
    return f"{gateway.keys.user_key(None, api_key)}/{user_key}"


async def store(gateway: Gateway, event: Event) -> bool:
    """Append durably; raises a 503 `ApiError`, because an answer that is not on record must not be given."""
    try:
        return await gateway.events.append(event)
    except EventStoreError as error:
        metrics.EVENT_FAILURES.inc()
        raise events_unavailable() from error


def segments(rules: Feedback, metadata: Mapping[str, str] | None) -> dict[str, str]:
    """What is kept of a request's metadata: the keys and values that the parameters list, `other` for other values."""
    told = metadata or {}
    return {key: told[key] if told[key] in values else OTHER for key, values in rules.segments.items() if key in told}


async def asked(gateway: Gateway, request_id: str) -> tuple[str, float] | None:
    """(user key, epoch s) of an accepted request; raises a 503 `ApiError` where the record cannot be read."""
    with _readable():
        return await gateway.events.asked(request_id)


async def reactions(gateway: Gateway, request_id: str, key: str) -> tuple[int, bool]:
    """(stored reactions to a response, whether one has this key); raises as `asked` does."""
    with _readable():
        return await gateway.events.reactions(request_id, key)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except EventStoreError as error:
        metrics.EVENT_FAILURES.inc()
        raise events_unavailable() from error


@asynccontextmanager
async def recorded(gateway: Gateway, exchange: Exchange) -> AsyncIterator[Result]:
    """Admit, record, run the block and record its end, however it ends; all within the request timeout."""
    if call := current():
        call.id, call.line, call.deployment, call.variant = (
            exchange.id,
            exchange.line,
            exchange.deployment,
            exchange.variant,
        )
    deadline = asyncio.get_running_loop().time() + gateway.serving.request_timeout
    async with gateway.admission[exchange.line].slot(deadline, exchange.share):
        result, begun = Result(), False
        try:
            await store(gateway, exchange.accepted())
            begun = True
            async with asyncio.timeout_at(deadline):
                yield result
        except asyncio.CancelledError:
            # Shielded: the cancellation that brought us here must not also lose the record.
            await asyncio.shield(_finish(gateway, exchange, result, "cancelled", CLIENT_GONE))
            raise
        except TimeoutError as error:
            await _finish(gateway, exchange, result, "error", 504)
            raise _on_record(timed_out(gateway.serving.request_timeout), exchange) from error
        except Exception as error:
            if not begun:  # an end without a beginning is no record, and would wait for the same database again
                raise
            await _finish(gateway, exchange, result, "error", error.status if isinstance(error, ApiError) else 500)
            if isinstance(error, ApiError):
                _on_record(error, exchange)
            raise
        await _finish(gateway, exchange, result, "ok", 200)


def _on_record(error: ApiError, exchange: Exchange) -> ApiError:
    """The error with the id under which it is on record."""
    error.headers = exchange.headers() | error.headers
    error.on_record = True
    return error


async def _finish(gateway: Gateway, exchange: Exchange, result: Result, outcome: Outcome, status: int) -> None:
    latency = time.monotonic() - exchange.began
    if call := current():
        call.outcome, call.status, call.batch_size = outcome, status, result.batch_size
        call.deployment = result.deployment or exchange.deployment
    finished = Finished(
        request_id=exchange.id,
        time=exchange.created + latency,
        latency_s=latency,
        outcome=outcome,
        status=status,
        batch_size=result.batch_size,
        prompt=exchange.prompt,
        output=result.output,
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
        adapter=result.adapter,
        answered_by=result.deployment,
        cut=result.cut,
    )
    await store(gateway, finished)
    # What could not be stored is refused instead, and counted there.
    metrics.REQUESTS.labels(exchange.line, str(status), outcome, exchange.experiment, exchange.variant).inc()
    # Who gave up later than that would have been late; who left earlier says nothing of how long it would have taken.
    if outcome == "ok" or (outcome == "cancelled" and latency > metrics.LATE[exchange.line]):
        metrics.SECONDS.labels(exchange.line).observe(latency)
    if result.batch_size:
        metrics.BATCH_SIZE.labels(exchange.line).observe(result.batch_size)
    metrics.TOKENS.labels("prompt").inc(result.prompt_tokens)
    metrics.TOKENS.labels("completion").inc(result.completion_tokens)
