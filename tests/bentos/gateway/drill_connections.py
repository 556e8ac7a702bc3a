"""A gateway under attack by somebody without a key, measured: its memory, and whether others are still answered."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest

from tests.bentos.gateway.conftest import CONCURRENCY, KEY, QUEUE, Running, serve_gateway
from tests.bentos.processes import answering

MEGABYTE = 2**20
USUAL = 1024  # descriptors that most systems give a process


@contextmanager
def descriptors(soft: int) -> Iterator[None]:
    """What is started in the block may open this many files unless it asks for more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def attacked(standin: str, tmp_path: Path) -> Iterator[Running]:
    with ExitStack() as stack:
        with descriptors(USUAL):
            served = serve_gateway(tmp_path / "gateway", standin, f"{standin}/text", f"{standin}/image")
            running = stack.enter_context(served)
        yield running


def connect(gateway: Running) -> socket.socket:
    address = urlsplit(gateway.url)
    return socket.create_connection((address.hostname, address.port or 80), timeout=20)


def answered(gateway: Running) -> float:
    """Seconds until a request is answered."""
    began = time.perf_counter()
    assert gateway.post("/v1/images/generations", json={"prompt": "a red boat"}).status_code == 200
    return time.perf_counter() - began


def test_27_200_megabytes_of_headers_cost_no_memory(attacked: Running) -> None:
    process = psutil.Process(answering(attacked.url))
    before, sent = process.memory_info().rss, 0
    with connect(attacked) as connection, suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\n")
        while sent < 200 * MEGABYTE:
            sent += connection.send(b"a: " + b"x" * 65_536 + b"\r\n")
    grown = process.memory_info().rss - before
    print(f"headers sent: {sent / MEGABYTE:.0f} MB, memory {before / MEGABYTE:.0f} + {grown / MEGABYTE:.0f} MB")
    assert grown < 50 * MEGABYTE
    answered(attacked)


def test_27_4000_idle_connections_shut_nobody_out(attacked: Running) -> None:
    process, before = psutil.Process(answering(attacked.url)), answered(attacked)
    rss = process.memory_info().rss
    with ExitStack() as stack:
        for _ in range(4000):
            stack.enter_context(connect(attacked))
        beside = answered(attacked)
        ready = httpx.get(f"{attacked.url}/readyz", timeout=5).status_code
        grown = process.memory_info().rss - rss
    print(
        f"4000 idle: {before * 1000:.0f} ms alone, {beside * 1000:.0f} ms beside them, {grown / MEGABYTE:.0f} MB more"
    )
    assert beside < 5 and ready == 200


async def test_25_refusals_are_immediate_under_overload(attacked: Running) -> None:
    """Every place of the text line taken, and 32 clients that ask again and again."""
    headers = {"authorization": f"Bearer {KEY}"}
    body = {"model": "atelier-text", "messages": [{"role": "user", "content": "HOLD the line"}]}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=attacked.url, headers=headers, timeout=60, limits=limits) as client:
        post = client.post
        held = [asyncio.create_task(post("/v1/chat/completions", json=body)) for _ in range(CONCURRENCY + QUEUE + 1)]
        refused, _ = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
        assert refused.pop().result().status_code == 429  # and the others have every place

        seconds: list[float] = []

        async def user() -> None:
            for _ in range(20):
                began = time.perf_counter()
                assert (await post("/v1/chat/completions", json=body)).status_code == 429
                seconds.append(time.perf_counter() - began)

        await asyncio.gather(*(user() for _ in range(32)))
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    print(f"{len(seconds)} refusals: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    assert p99 < 5000
