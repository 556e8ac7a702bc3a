"""One request of a Bento: its id, what is logged of it (one JSON line) and its span in a trace.

The gateway names a request; model Bentos take its id and the trace it belongs to from the headers of the call. Of what
clients write nothing is logged: no prompt, no answer, no key, no user, no path that does not exist.
"""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar

from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from pythonjsonlogger.json import JsonFormatter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.protocol import JOB_ID, REQUEST_ID
from bentos.tracing import tracer

CLIENT_GONE = 499  # status of a request whose client left first, as nginx writes it

log = logging.getLogger("atelier.calls")
log.setLevel(logging.INFO)
log.propagate = False
# BentoML's own handler would write text around it.
log.addHandler(logging.StreamHandler(sys.__stdout__))
log.handlers[0].setFormatter(JsonFormatter("%(message)s", timestamp=True))


@dataclass
class Call:
    """What is known of a request so far; who answers it fills it in. `status` 0: that of the HTTP answer."""

    id: str
    line: str = ""
    deployment: str = ""
    variant: str = ""
    outcome: str = ""
    status: int = 0
    batch_size: int = 0
    span: Span = INVALID_SPAN

    def generated(self, began: int, batch_size: int) -> None:
        """Note that the model worked for it from `began` (epoch nanoseconds) until now, on so many at once."""
        self.batch_size = batch_size
        attributes: dict[str, str | int] = {"atelier.request_id": self.id, "atelier.batch_size": batch_size}
        context = set_span_in_context(self.span, Context())
        tracer.start_span("generation", context, attributes=attributes, start_time=began).end()


_current: ContextVar[Call | None] = ContextVar("call", default=None)
_jobs: dict[str, Call] = {}


def current() -> Call | None:
    """The request in work here; None in work that no request asked for."""
    return _current.get()


def of_job(job: str) -> Call | None:
    """The request that waits for a job: a batch is painted outside of its requests' contexts."""
    return _jobs.get(job)


def failed(status: int) -> None:
    """Note that the current request failed although its answer had begun with 200."""
    if call := _current.get():
        call.status = status


@contextmanager
def outgoing(name: str) -> Iterator[dict[str, str]]:
    """Headers for a call to a model Bento in the name of the current request; a client span until the block ends."""
    call = _current.get()
    if call is None:
        yield {}
        return
    span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes={"atelier.request_id": call.id})
    headers = {REQUEST_ID: call.id}
    # Not made current: a stream holds this block open while its reader works on.
    inject(headers, set_span_in_context(span))
    try:
        yield headers
    except Exception as error:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        span.end()


class Calls:
    """ASGI middleware around the `routes` of one service.

    `public`: clients ask here. Then other paths are logged too (as `other`), and the id is ours, never the client's.
    """

    served: ClassVar[tuple[str, str]] = ("", "")  # line and deployment of a model Bento's process

    def __init__(self, app: ASGIApp, routes: Sequence[str], public: bool = False) -> None:
        self._app, self._routes, self._public = app, frozenset(routes), public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (self._public or scope["path"] in self._routes):
            return await self._app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = "" if self._public else headers.get(REQUEST_ID, "")[:200]
        call = Call(given or f"req-{uuid.uuid4().hex}", *self.served)
        known = scope["path"] in self._routes
        method, route = (scope["method"], scope["path"]) if known else ("HTTP", "other")
        job = headers.get(JOB_ID, call.id)
        began = time.perf_counter()
        status, ended = CLIENT_GONE, False

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not ended:
                call.outcome = "cancelled"
            return message

        async def noted(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        # The trace is the caller's, and not that of BentoML's own span around us, which is never exported.
        context = extract(headers, Context())
        with tracer.start_as_current_span(f"{method} {route}", context, SpanKind.SERVER) as call.span:
            token = _current.set(call)
            _jobs[job] = call
            try:
                await self._app(scope, watched, noted)
            finally:
                _jobs.pop(job, None)
                _current.reset(token)
                call.status = call.status or status
                call.outcome = call.outcome or ("ok" if call.status < 400 else "error")
                _write(call, method, route, time.perf_counter() - began)


def _write(call: Call, method: str, route: str, seconds: float) -> None:
    facts: dict[str, str | int] = {
        "request_id": call.id,
        "line": call.line,
        "deployment": call.deployment,
        "variant": call.variant,
        "outcome": call.outcome,
        "batch_size": call.batch_size,
    }
    call.span.set_attributes({f"atelier.{name}": value for name, value in facts.items()})
    call.span.set_attributes(
        {"http.request.method": method, "http.route": route, "http.response.status_code": call.status}
    )
    if call.outcome == "error":
        call.span.set_status(StatusCode.ERROR)
    context = call.span.get_span_context()
    trace = format_trace_id(context.trace_id) if context.is_valid else ""
    measured = {"method": method, "route": route, "status": call.status, "latency_s": round(seconds, 6)}
    log.info("request", extra=facts | measured | {"trace_id": trace})
