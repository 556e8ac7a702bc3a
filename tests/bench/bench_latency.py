"""What a part of the gateway costs a request: `make bench NAME=events` prints the figures and writes them to
`metrics/online/latency_event_log.json` and `latency_tracing.json`.

Two real gateway processes in front of the same stand-in for the model Bentos, one with the part and one without, asked
in turns by one user with the first place changing, so that both meet the same moments of the machine.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np

from components.artifact import canonical, write_text
from tests.bench.timing import before_work, paired_ratio
from tests.bentos.collector import receiving
from tests.bentos.gateway.conftest import KEY, Running, serve_gateway
from tests.components.events.examples import read
from tests.conftest import ROOT

PAIRS, WARM_UP = 400, 50
BODY = {"model": "atelier-text", "messages": [{"role": "user", "content": "a red boat"}]}


def paired(part: str, without: Running, having: Running) -> None:
    """Print and write p50 and p95 of both gateways in milliseconds, and how many times as long a request takes."""
    machine = before_work()
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
    ratio = paired_ratio(taken[:, 1].tolist(), taken[:, 0].tolist())
    document = {"part": part, "pairs": PAIRS, "ratio": asdict(ratio), "machine": machine}
    for name, column in zip(("without", "with"), taken.T, strict=True):
        p50, p95 = np.percentile(column, [50, 95])
        print(f"{name:7} {part:10}  p50 {p50:6.2f} ms  p95 {p95:6.2f} ms")
        document[name] = {"p50_ms": p50, "p95_ms": p95}
    print(f"{ratio.ratio:.2f} times as long ({ratio.low:.2f} to {ratio.high:.2f}), {PAIRS} pairs")
    write_text(ROOT / f"metrics/online/latency_{part.replace(' ', '_')}.json", canonical(document))


def test_what_the_event_log_costs(standin: str, tmp_path: Path) -> None:
    lines = (f"{standin}/text", f"{standin}/image")
    with (
        serve_gateway(tmp_path / "with", standin, *lines) as having,
        serve_gateway(
            tmp_path / "without", standin, *lines, service="tests.bentos.gateway.unlogged:GatewayBento"
        ) as without,
    ):
        paired("event log", without, having)
        assert len(read(having.events, "finished")) >= PAIRS


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
