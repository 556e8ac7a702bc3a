"""What a part of the gateway costs a request: `make bench-events`, prints its figures.

Two real gateway processes in front of the same stand-in for the model Bentos, one with the part and one without, asked
in turns by one user with the first place changing, so that both meet the same moments of the machine.
"""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import numpy as np

from tests.bentos.collector import receiving
from tests.bentos.gateway.conftest import KEY, Running, serve_gateway

PAIRS, WARM_UP = 400, 50
BODY = {"model": "atelier-text", "messages": [{"role": "user", "content": "a red boat"}]}


def paired(part: str, without: Running, having: Running) -> None:
    """Print p50 and p95 of both gateways in milliseconds, and the median difference within a pair."""
    with httpx.Client(headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:

        def milliseconds(gateway: Running) -> float:
            began = time.perf_counter()
            client.post(f"{gateway.url}/v1/chat/completions", json=BODY).raise_for_status()
            return (time.perf_counter() - began) * 1000

        pairs = []
        for index in range(WARM_UP + PAIRS):
            if index % 2:
                second, first = milliseconds(having), milliseconds(without)
            else:
                first, second = milliseconds(without), milliseconds(having)
            pairs.append((first, second))
    taken = np.array(pairs[WARM_UP:])  # [pairs, 2]
    for name, column in zip((f"without {part}", f"with {part}"), taken.T, strict=True):
        p50, p95 = np.percentile(column, [50, 95])
        print(f"{name:24}  p50 {p50:6.2f} ms  p95 {p95:6.2f} ms")
    print(f"median difference of {PAIRS} pairs: {np.median(taken[:, 1] - taken[:, 0]):.2f} ms")


def test_what_the_event_log_costs(standin: str, tmp_path: Path) -> None:
    lines = (f"{standin}/text", f"{standin}/image")
    with (
        serve_gateway(tmp_path / "with", standin, *lines) as having,
        serve_gateway(
            tmp_path / "without", standin, *lines, service="tests.bentos.gateway.unlogged:GatewayBento"
        ) as without,
    ):
        paired("event log", without, having)


def test_what_tracing_costs(standin: str, tmp_path: Path) -> None:
    """Every request sampled and exported, to a receiver in this process: the most that it can cost."""
    lines = (f"{standin}/text", f"{standin}/image")
    with receiving() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with (
            serve_gateway(tmp_path / "with", standin, *lines, variables=variables) as having,
            serve_gateway(tmp_path / "without", standin, *lines) as without,
        ):
            paired("tracing", without, having)
    assert len(receiver.spans) >= 3 * PAIRS  # the request, its admission and the upstream call
