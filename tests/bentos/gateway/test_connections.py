"""What a client may take of the gateway before it has said who it is: bytes, time, connections."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from bentos.gateway import connections
from bentos.gateway.connections import MAX_FRAMING, MAX_HEADERS, BoundedProtocol
from tests.bentos.gateway.conftest import Running

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """How many bytes of body came; on /refused an answer before the body was read; on /large 64 MB; on /held none."""
    if scope["path"] == "/held":
        await asyncio.Event().wait()
    if scope["path"] == "/large":
        return await PlainTextResponse(b"x" * 2**26)(scope, receive, send)
    body = b"" if scope["path"] == "/refused" else await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """The port of a server with the gateway's connections over a small application."""
    config = Config(echo, http=BoundedProtocol, log_config=None)
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()


async def said(port: int, *parts: bytes) -> bytes:
    """All that the server says until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass
    answer = b""
    try:
        while piece := await reader.read(65_536):
            answer += piece
    except ConnectionError:  # closed while we were still sending
        pass
    writer.close()
    return answer


def refusal(answer: bytes) -> tuple[int, str]:
    """(status, code) of an answer in OpenAI's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert b"connection: close" in head
    return int(head.split()[1]), error["code"]


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"a: 1\r\n" * MAX_HEADERS + b"\r\n",
        POST + b"a: " + b"x" * 2 * MAX_FRAMING,
        POST + b"a: " + b"x" * 2 * MAX_FRAMING + b"\r\n\r\n",
        b"GET /" + b"x" * 2 * MAX_FRAMING,
        POST + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * MAX_FRAMING,
        POST + b"transfer-encoding: chunked\r\n\r\n0\r\nlate: " + b"x" * 2 * MAX_FRAMING,
    ],
    ids=["many", "long", "long and complete", "path", "tiny chunks", "trailer"],
)
async def test_27_what_is_not_body_is_bounded(request_: bytes) -> None:
    async with served() as port:
        assert refusal(await said(port, request_)) == (431, "headers_too_large")
        last = POST + b"connection: close\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000
        assert (await said(port, last)).endswith(b"100000")


async def test_27_a_request_that_does_not_come_to_its_end_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.05)
    async with served() as port:
        assert await said(port) == b""
        assert refusal(await said(port, b"GET / HT")) == (408, "request_timeout")
        assert refusal(await said(port, POST + b"content-length: 9\r\n\r\nhalf")) == (408, "request_timeout")
        unread = await said(port, b"POST /refused HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf")
        assert unread.startswith(b"HTTP/1.1 200") and unread.count(b"HTTP/1.1") == 1


async def test_27_a_client_who_reads_nothing_holds_no_answer_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    lost, before = asyncio.Event(), BoundedProtocol.connection_lost

    def connection_lost(protocol: BoundedProtocol, error: Exception | None) -> None:
        before(protocol, error)
        lost.set()

    monkeypatch.setattr(BoundedProtocol, "connection_lost", connection_lost)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.05)
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await lost.wait()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(2**26)
        writer.close()


async def test_27_idle_connections_shut_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 4)
    async with served() as port:
        _, working = await asyncio.open_connection("127.0.0.1", port)
        working.write(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n")
        await working.drain()
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        closing = GET.replace(b"host", b"connection: close\r\nhost")
        assert (await said(port, closing)).endswith(b"0")
        assert await idle[0][0].read() == b""  # the one that waited longest made room
        assert not working.is_closing() and len(BoundedProtocol.waiting) <= 4
        for _, writer in [*idle, (None, working)]:
            writer.close()


async def test_27_pipelined_requests_are_bounded_and_answered_in_order() -> None:
    async with served() as port:
        few = GET * 3 + GET.replace(b"host", b"connection: close\r\nhost")
        assert (await said(port, few)).count(b"HTTP/1.1 200") == 4
        assert (await said(port, GET * 200)).count(b"HTTP/1.1 200") < 20


async def test_27_no_websocket_escapes_the_bounds() -> None:
    upgrade = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(upgrade + b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


def test_27_the_gateway_refuses_megabytes_of_headers_and_keeps_answering(gateway: Running) -> None:
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=20) as connection:
        sent = 0
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            while sent < 64 * 2**20:
                sent += connection.send(b"a: " + b"x" * 65_536 + b"\r\n")
    assert sent < 16 * 2**20  # what the sockets' own buffers hold
    assert gateway.post("/v1/images/generations", json={"prompt": "a red boat"}).status_code == 200


def test_27_who_is_not_known_is_refused_before_the_body_comes(gateway: Running) -> None:
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=20) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")


def test_27_the_gateway_may_open_more_files_than_it_takes_connections(gateway: Running) -> None:
    found = re.search(r"^process_max_fds ([\d.e+]+)", httpx.get(f"{gateway.url}/metrics").text, re.MULTILINE)
    assert found and float(found[1]) >= 2 * connections.MAX_CONNECTIONS
