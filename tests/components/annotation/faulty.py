"""A faulty way to a real Label Studio server: a proxy (starlette on uvicorn) that fails as it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# A request does not reach the server; or reaches it and its answer is an error; or one that comes too late.
Fault = Literal["refused", "lost", "slow"]
METHODS = ["GET", "POST", "PATCH", "DELETE"]


@dataclass
class Faulty:
    """A fault befalls the requests whose address holds `path`, but for the first of them that are spared."""

    upstream: str
    url: str = ""
    fault: Fault | None = None
    path: str = ""
    spared: int = 0
    seen: list[str] = field(default_factory=list)  # the methods of those requests

    def begin(self, fault: Fault, path: str, spared: int = 0) -> None:
        self.fault, self.path, self.spared, self.seen = fault, path, spared, []

    def end(self) -> None:
        self.fault = None

    async def answer(self, request: Request) -> Response:
        address = f"{request.url.path}?{request.url.query}"
        fault = None
        if self.path in address:
            self.seen.append(request.method)
            fault = self.fault if len(self.seen) > self.spared else None
        if fault == "refused":
            return Response("made up: the disk is full", 500)
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        async with httpx.AsyncClient(base_url=self.upstream, timeout=60) as client:
            body = await request.body()
            got = await client.request(request.method, address, headers=headers, content=body)
        if fault == "slow":
            await asyncio.sleep(3)
        if fault == "lost":
            return Response("made up: the answer is lost", 502)
        return Response(got.content, got.status_code, media_type=got.headers.get("content-type"))


@contextmanager
def faulty(upstream: str) -> Iterator[Faulty]:
    """The proxy, in a thread of its own, on a free port."""
    proxy = Faulty(upstream)
    app = Starlette(routes=[Route("/{path:path}", proxy.answer, methods=METHODS)])
    config = uvicorn.Config(app, port=0, log_level="error")
    socket = config.bind_socket()
    proxy.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    try:
        yield proxy
    finally:
        server.should_exit = True
        thread.join()
