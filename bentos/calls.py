"""One request of a Bento: its id, what is logged of it (one JSON line), its span in a trace, and its end when its
caller goes.

The gateway names a request; model Bentos take its id and the trace it belongs to from the headers of the call. Of what
clients write nothing is logged: no prompt, no answer, no key, no user, no path that does not exist.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from pythonjsonlogger.json import JsonFormatter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.protocol import JOB_ID, REQUEST_ID
from bentos.tracing import tracer

T = TypeVar("T")
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
        method, route = (scope["method"], scope["path"]) if scope["path"] in self._routes else ("HTTP", "other")
        job, began = headers.get(JOB_ID, call.id), time.perf_counter()
        # The trace is the caller's, and not that of BentoML's own span around us, which is never exported.
        context = extract(headers, Context())
        with tracer.start_as_current_span(f"{method} {route}", context, SpanKind.SERVER) as call.span:
            token = _current.set(call)
            _jobs[job] = call
            watched = _Watched(self._app, call)
            try:
                await watched(scope, receive, send)
            finally:
                if _jobs.get(job) is call:  # a later request of the same job may have taken the name
                    del _jobs[job]
                _current.reset(token)
                call.status = call.status or watched.status
                call.outcome = call.outcome or ("ok" if call.status < 400 else "error")
                _write(call, method, route, time.perf_counter() - began)


class _Watched:
    """Notes the status of one request's answer, and whether its caller goes before the answer's end."""

    def __init__(self, app: ASGIApp, call: Call) -> None:
        self._app, self._call = app, call
        self.status, self._ended = CLIENT_GONE, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        await self._app(scope, self._watch, self._note)

    async def _watch(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._ended:
            self._call.outcome = "cancelled"
        return message

    async def _note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self._ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


def _write(call: Call, method: str, route: str, seconds: float) -> None:
    names = ("line", "deployment", "variant", "outcome", "batch_size")
    facts = {"request_id": call.id} | {name: getattr(call, name) for name in names}
    sent = {"http.request.method": method, "http.route": route, "http.response.status_code": call.status}
    call.span.set_attributes({f"atelier.{name}": value for name, value in facts.items()} | sent)
    if call.outcome == "error":
        call.span.set_status(StatusCode.ERROR)
    context = call.span.get_span_context()
    trace = format_trace_id(context.trace_id) if context.is_valid else ""
    measured = {"method": method, "route": route, "status": call.status, "latency_s": round(seconds, 6)}
    log.info("request", extra=facts | measured | {"trace_id": trace})


class ClientGone(Exception):  # noqa: N818 - not an error of ours
    """The caller disconnected and its work was cancelled; nobody is left to answer."""


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Result of `work`, which is cancelled (and awaited) if the caller disconnects first; then raises `ClientGone`.

    To be called after the request's body was read: `receive` then returns only at the disconnection.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(disconnection(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for pending in (task, watcher):
            pending.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def disconnection(receive: Receive) -> None:
    """Wait until the caller has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
