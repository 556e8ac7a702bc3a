"""Load of a running gateway: `make bench NAME=load` at 1, 8 and 32 concurrent users.

Prints a table and writes `metrics/online/load_<line>.json`. Each level is bounded in requests and in seconds. The
generator shares the machine's cores with the servers, so that the figures are those of the whole machine. The API key
is the first of ATELIER_API_KEYS, else that of this machine's stack.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import numpy as np
import typer

from components.api_keys import KEYS, accepted_keys
from components.artifact import canonical, write_text
from components.config import Line, load
from components.lines import IMAGE, TEXT
from components.paths import STATE
from components.stage import StageError, run
from tests.bench.timing import before_work

OUT = Path("metrics/online")
KEY_FILE = STATE / "api-key"
USERS = (1, 8, 32)
PROMPTS = ("a red apple", "a smiling cat", "a blue heart", "a rocket on the moon", "a slice of pizza", "a green tree")
PATHS: dict[Line, str] = {"text": "/v1/chat/completions", "image": "/v1/images/generations"}
WARM_UP = 12  # requests: the image Bento's dispatcher learns from the first ten

Send = Callable[[int], Awaitable[int]]


@dataclass(frozen=True)
class Level:
    """What one level of load measured: units are tokens or pictures."""

    users: int
    seconds: float
    latencies: tuple[float, ...]
    units: int
    failures: int

    def figures(self) -> dict[str, float]:
        """Units per second, percentiles of the latencies in ms where there are any, and numbers of requests."""
        counts = {"per_second": self.units / self.seconds, "requests": len(self.latencies), "failed": self.failures}
        if not self.latencies:
            return counts
        percentiles = np.percentile(self.latencies, [50, 95, 99]) * 1000
        return counts | dict(zip(("p50_ms", "p95_ms", "p99_ms"), percentiles.tolist(), strict=True))

    def row(self, line: Line) -> str:
        if not self.latencies:
            return f"{line:5}  {self.users:5}  no request succeeded, {self.failures} failed"
        unit = "tokens/s" if line == "text" else "images/s"
        return (
            f"{line:5}  {self.users:5}  {{per_second:8.1f}} {unit}  {{requests:8}}  "
            "{p50_ms:7.0f}  {p95_ms:7.0f}  {p99_ms:7.0f}  {failed:6}"
        ).format(**self.figures())


def body(line: Line, index: int, tokens: int) -> dict[str, Any]:
    prompt = PROMPTS[index % len(PROMPTS)]
    if line == "image":
        return {"model": IMAGE.model, "prompt": prompt, "seed": index}
    messages = [{"role": "user", "content": prompt}]
    return {"model": TEXT.model, "messages": messages, "max_tokens": tokens, "seed": index, "temperature": 0.7}


def units(line: Line, answer: dict[str, Any]) -> int:
    return int(answer["usage"]["completion_tokens"]) if line == "text" else len(answer["data"])


async def measure(send: Send, users: int, requests: int, seconds: float) -> Level:
    """`users` at a time, each asking again when answered, until `requests` were sent or `seconds` have passed."""
    latencies: list[float] = []
    done = failures = sent = 0
    began = time.perf_counter()

    async def user() -> None:
        nonlocal done, failures, sent
        while sent < requests and time.perf_counter() - began < seconds:
            index, sent = sent, sent + 1
            start = time.perf_counter()
            try:
                amount = await send(index)
            except (aiohttp.ClientError, TimeoutError):
                failures += 1
            else:
                done += amount  # not `done += await …`, which reads `done` before it waits
                latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(user() for _ in range(users)))
    return Level(users, time.perf_counter() - began, tuple(latencies), done, failures)


async def bench(
    url: str, key: str, lines: list[Line], requests: int, seconds: float, tokens: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Print and return the figures of each line and level; raises `StageError` where a warm-up request fails."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:

        def sender(line: Line) -> Send:
            async def send(index: int) -> int:
                async with session.post(url + PATHS[line], json=body(line, index, tokens)) as response:
                    response.raise_for_status()
                    return units(line, await response.json())

            return send

        print("line   users  throughput          requests   p50 ms   p95 ms   p99 ms  failed")
        figures: dict[str, dict[str, dict[str, float]]] = {}
        for line in lines:
            warm = await measure(sender(line), 1, WARM_UP, seconds)
            if warm.failures:
                raise StageError(f"{url}: {warm.failures} of {WARM_UP} warm-up requests to the {line} line failed")
            for users in USERS:
                level = await measure(sender(line), users, max(requests, 2 * users), seconds)
                print(level.row(line), flush=True)
                figures.setdefault(line, {})[f"users_{users}"] = level.figures()
        return figures


def main(
    url: Annotated[str, typer.Option(help="Address of the gateway; by default that of params.yaml.")] = "",
    line: Annotated[str, typer.Option(help="`text`, `image` or `both`.")] = "both",
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="Most requests of a level.")] = 200,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Longest a level may send.")] = 20,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a completion.")] = 32,
) -> None:
    """Measure a running gateway."""
    lines: dict[str, list[Line]] = {"text": ["text"], "image": ["image"], "both": ["text", "image"]}
    if line not in lines:
        raise StageError(f"line {line!r} is not one of {', '.join(lines)}")
    key = next(iter(accepted_keys(os.environ.get(KEYS) or KEY_FILE.read_text(encoding="utf-8"))))
    serving = load().serving
    address = url.rstrip("/") or f"http://{serving.host}:{serving.gateway_port}"
    machine = before_work()
    for measured, levels in asyncio.run(bench(address, key, lines[line], requests, seconds, tokens)).items():
        write_text(OUT / f"load_{measured}.json", canonical({"levels": levels, "machine": machine}))


if __name__ == "__main__":
    run(main)
