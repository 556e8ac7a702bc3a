"""A stand-in for an OpenAI-compatible endpoint, on loopback, with no model behind it.

It streams `answer(messages)` word by word, with usage where that is asked for: a token for each word. `mode` makes
every later answer another: see `MODES`. `refusals` are given first, one for each request: a status, and headers.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.bentos.processes import free_port

# "json": a whole completion where a stream was asked for; "shape": a stream of other events; "cut": no finish_reason;
# "broken": an error within the stream; "tool": it ends in a tool call; "slow": a pause first; "hold": a pause after the
# first word until the caller leaves; "no_usage": none although asked for.
MODES = ("ok", "json", "shape", "cut", "broken", "tool", "slow", "hold", "no_usage")
SLOW_SECONDS = 1.0
Message = dict[str, str]


def echo(messages: list[Message]) -> str:
    return f"{messages[-1]['content'].split()[-1]}: flat sticker"


@dataclass
class StandIn:
    url: str
    answer: Callable[[list[Message]], str] = echo
    mode: str = "ok"
    pause: float = 0.0  # seconds before an answer
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)  # bodies, as they arrived
    headers: list[dict[str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # prompts whose callers left while they were held

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        if self.refusals:
            status, headers = self.refusals.pop(0)
            error = {"message": f"no: {status}", "code": headers.pop("code", None)}
            return JSONResponse({"error": error}, status, headers)
        await asyncio.sleep(SLOW_SECONDS if self.mode == "slow" else self.pause)
        if self.mode == "json":
            return JSONResponse({"choices": [{"message": {"content": self.answer(body["messages"])}}]})
        return StreamingResponse(self.events(body), media_type="text/event-stream")

    async def events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        def event(document: object) -> str:
            return f"data: {json.dumps(document)}\n\n"

        def choice(delta: dict[str, str], finish: str | None = None) -> str:
            return event({"object": "chat.completion.chunk", "choices": [{"delta": delta, "finish_reason": finish}]})

        words = self.answer(body["messages"]).split(" ")
        yield ": a comment\n\n"
        yield choice({"role": "assistant", "content": ""})
        if self.mode == "shape":
            yield event({"choices": "none"})
        for number, word in enumerate(words):
            yield choice({"content": word if number == 0 else f" {word}"})
            if self.mode == "hold":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left.append(body["messages"][-1]["content"])
        if self.mode == "broken":
            yield event({"error": {"message": "overheated", "code": 500}})
        if self.mode != "cut":
            yield choice({}, "tool_calls" if self.mode == "tool" else "stop")
        if body.get("stream_options", {}).get("include_usage") and self.mode != "no_usage":
            read = sum(len(message["content"].split()) for message in body["messages"])
            usage = {"prompt_tokens": read, "completion_tokens": len(words), "total_tokens": read + len(words)}
            yield event({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"


@contextmanager
def endpoint_standin() -> Iterator[StandIn]:
    """The stand-in, on a thread of this process until the block ends."""
    port = free_port()
    standin = StandIn(f"http://127.0.0.1:{port}/v1")
    app = Starlette(routes=[Route("/v1/chat/completions", standin.complete, methods=["POST"])])
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)

    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield standin
    finally:
        server.should_exit = True
        thread.join(20)
