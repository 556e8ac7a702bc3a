"""What the gateway makes of model Bentos that are down, wrong, slow or overloaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bentos.gateway.errors import ApiError
from bentos.gateway.upstream import Upstream
from bentos.protocol import ImageJob, TextJob
from tests.bentos.processes import free_port

JOB = TextJob(messages=[("user", "hi")], max_new_tokens=4, temperature=0)
PICTURE = ImageJob(id="1", prompt="a boat", seed=0, steps=1, guidance=1)


async def answer(request: web.Request) -> web.Response:
    """A stand-in whose path is the status it answers with; `slow` never answers."""
    kind = request.match_info["kind"]
    if kind == "slow":
        await asyncio.Event().wait()
    return web.Response(text="nonsense", status=int(kind))


@asynccontextmanager
async def upstream(kind: str, seconds: float = 10) -> AsyncIterator[Upstream]:
    app = web.Application()
    app.router.add_post("/{kind}/{api}", answer)
    async with TestServer(app) as server:
        url = str(server.make_url(kind))
        client = Upstream({"text": [url], "image": [url]}, seconds)
        try:
            yield client
        finally:
            await client.close()


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("429", 429, "overloaded"),
        ("500", 500, "internal"),
        ("503", 503, "model_unavailable"),
        ("504", 504, "timeout"),
        ("400", 400, "context_length_exceeded"),
        ("422", 400, "invalid_value"),
        ("200", 503, "model_unavailable"),
    ],
)
async def test_statuses_become_honest_errors(kind: str, status: int, code: str) -> None:
    async with upstream(kind) as client:
        with pytest.raises(ApiError) as caught:
            await client.write(client.slots["text"][0], JOB)
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_a_slow_model_is_a_504() -> None:
    async with upstream("slow", seconds=0.2) as client:
        with pytest.raises(ApiError) as caught:
            await client.paint(client.slots["image"][0], PICTURE)
    assert caught.value.status == 504


async def test_a_model_that_is_down_is_a_503_that_says_when_to_retry() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    client = Upstream({"text": [url], "image": [url]}, 5)
    try:
        for call in (
            client.info(client.slots["image"][0]),
            client.paint(client.slots["image"][0], PICTURE),
            client.write(client.slots["text"][0], JOB),
            anext(client.stream(client.slots["text"][0], JOB)),
        ):
            with pytest.raises(ApiError) as caught:
                await call
            assert caught.value.status == 503
            assert caught.value.headers["retry-after"]
    finally:
        await client.close()
