"""HTTP connections of the gateway: what a client may take of the process before anybody knows who it is.

uvicorn's protocol over httptools bounds neither a request's head, nor how long it takes to come, nor how many
connections there are. Here what is not body, time and connections are bounded; beyond that the oldest connection that
waits for a request is closed, so that idle ones shut nobody out. No bound for each address: behind a load balancer
there is only one. Refusals have OpenAI's shape, as the application's have.
"""

from __future__ import annotations

import asyncio
import json
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bentos.gateway.errors import ApiError
from monitoring import metrics

MAX_FRAMING = 32 * 1024  # bytes of a request that are not body: its line, headers, chunk sizes, trailers
MAX_HEADERS = 100  # each costs some hundred bytes here, however short it is
MAX_PIPELINED = 8  # requests that wait for the answer to the one before
HEAD_SECONDS = 10.0  # from a connection, or a request's first byte, until its headers are complete
BODY_SECONDS = 30.0  # from then until its body is complete
UNREAD_SECONDS = 60.0  # how long a client may leave unread what was written to it
MAX_CONNECTIONS = 2048
DESCRIPTORS = 8192  # of the process; pictures take one upstream each


class TooMuchError(Exception):
    """Raised in a callback of the parser, which then stops reading the request."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    # Those that wait for the head of a request, the one that has waited longest first.
    waiting: dict[BoundedProtocol, None] = {}  # noqa: RUF012 - of the process

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._framing = self._head = self._headers = 0
        self._in_body = False
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.waiting[self] = None
        self._expect_within(HEAD_SECONDS)
        if len(self.connections) > most_connections():
            oldest = next(iter(self.waiting))
            del self.waiting[oldest]
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.pop(self, None)
        self._expect_within(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._framing = max(self._framing, 0) + len(data)
        super().data_received(data)
        if self._framing > MAX_FRAMING:
            self._refuse_head()

    def on_message_begin(self) -> None:
        self._head = self._headers = 0
        self._in_body = False
        super().on_message_begin()
        self._expect_within(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_FRAMING or self._headers > MAX_HEADERS:
            raise TooMuchError

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooMuchError
        super().on_headers_complete()
        self.waiting.pop(self, None)
        self._in_body = True
        self._expect_within(BODY_SECONDS)

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._framing = 0
        self._expect_within(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self.waiting[self] = None

    def send_400_response(self, msg: str) -> None:
        """What httptools could not parse, or a callback above refused."""
        if self._head > MAX_FRAMING or self._headers > MAX_HEADERS:
            self._refuse_head()
        else:
            self._refuse(400, "this is no HTTP request that can be answered here", "invalid_http")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _should_upgrade_to_ws(self) -> bool:
        """No WebSocket is spoken here, and its protocol knows none of these bounds."""
        return False

    def _expect_within(self, seconds: float | None) -> None:
        """Give the client so long for what comes next; None: nothing is expected of it."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self.pipeline:  # nothing is read from this connection before an answer to it is complete
            return self._expect_within(BODY_SECONDS)
        answered = self._in_body and self.cycle.response_complete
        if self._framing == 0 or answered:  # nothing was asked, or the rest of a refused body is not wanted
            return self.transport.close()
        self._refuse(408, "the request did not come to its end in time", "request_timeout")

    def _refuse_head(self) -> None:
        message = f"a request's line and headers are limited to {MAX_HEADERS} headers and {MAX_FRAMING} bytes"
        self._refuse(431, message, "headers_too_large")

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer unless an answer has begun, and close."""
        if self.transport.is_closing():
            return
        metrics.REFUSED.labels("", str(status), code).inc()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps(ApiError(status, message, code=code).body()).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()


def most_connections() -> int:
    """As many as leave half of the process's descriptors to everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


def raise_descriptors() -> None:
    """Let this process open `DESCRIPTORS` files and connections, or as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
