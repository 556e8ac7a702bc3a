"""What the gateway makes of model Bentos that are down, wrong, slow or overloaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bentos.gateway import upstream as upstream_module
from bentos.gateway.errors import ApiError
from bentos.gateway.upstream import Upstream
from bentos.protocol import SHARE, ImageJob, Info, TextJob
from tests.bentos.processes import free_port

JOB = TextJob(messages=[("user", "hi")], max_new_tokens=4, temperature=0)
PICTURE = ImageJob(id="1", prompt="a boat", seed=0, steps=1, guidance=1)


async def answer(request: web.Request) -> web.Response:
    """A stand-in whose path is the status it answers with; `slow` never answers, `long` refuses in words."""
    kind = request.match_info["kind"]
    if kind == "slow":
        await asyncio.Event().wait()
    if kind == "long":  # as BentoML wraps it
        return web.json_response([{"error": f"7287 prompt tokens, {request.headers[SHARE]}"}], status=400)
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


async def test_26_a_refusal_for_length_says_what_the_model_says() -> None:
    async with upstream("long") as client:
        with pytest.raises(ApiError) as caught:
            await client.write(client.slots["text"][0], JOB, "key/user")
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
    assert caught.value.message == "messages: 7287 prompt tokens, key/user; send less"


async def test_a_slow_model_is_a_504() -> None:
    async with upstream("slow", seconds=0.2) as client:
        with pytest.raises(ApiError) as caught:
            await client.paint(client.slots["image"][0], PICTURE)
    assert caught.value.status == 504


async def test_a_model_that_is_down_is_a_503_that_says_when_to_retry() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    client = Upstream({"text": [url], "image": [url]}, 5)
    try:
        await client.refresh()
        with pytest.raises(ApiError) as caught:
            client.info(client.slots["image"][0])
        assert (caught.value.status, caught.value.code) == (503, "model_unavailable")
        for call in (
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


@asynccontextmanager
async def one_of_two_hangs() -> AsyncIterator[tuple[Upstream, asyncio.Event, asyncio.Queue[str]]]:
    """Text and image, an event that makes text hang, and the names of the lines as they are asked what they serve."""
    hangs, asked = asyncio.Event(), asyncio.Queue[str]()

    async def info(request: web.Request) -> web.Response:
        line = request.match_info["line"]
        asked.put_nowait(line)
        if line == "text" and hangs.is_set():
            await asyncio.Event().wait()
        said = {"line": line, "deployment": f"{line}-1", "digest": "0" * 64}
        return web.Response(text=Info.model_validate(said).model_dump_json())

    app = web.Application()
    app.router.add_post("/{line}/info", info)
    async with TestServer(app) as server:
        client = Upstream({"text": [str(server.make_url("text"))], "image": [str(server.make_url("image"))]}, 120)
        try:
            yield client, hangs, asked
        finally:
            await client.close()


async def test_25_a_place_that_hangs_keeps_no_other_from_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "POLL_SECONDS", 0.01)
    async with one_of_two_hangs() as (client, hangs, asked):
        hangs.set()
        following = asyncio.create_task(client.follow())
        async with asyncio.timeout(10):
            while [await asked.get() for _ in range(6)].count("image") < 5:
                pass
        assert not following.done()
        following.cancel()


async def test_25_what_a_hung_place_said_last_holds_for_a_moment_then_its_line_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one_of_two_hangs() as (client, hangs, _):
        text, image = client.slots["text"][0], client.slots["image"][0]
        await client.refresh()
        hangs.set()
        monkeypatch.setattr(upstream_module, "INFO_SECONDS", 0.01)
        await client.refresh()
        assert client.info(text).deployment == "text-1"  # asks nobody
        monkeypatch.setattr(upstream_module, "SILENT_SECONDS", -1.0)
        with pytest.raises(ApiError) as caught:
            client.info(text)
        assert (caught.value.status, caught.value.code) == (503, "model_unavailable")
        monkeypatch.setattr(upstream_module, "SILENT_SECONDS", 10.0)
        assert client.info(image).deployment == "image-1"
