"""The load generator against the running gateway: bounded, counted, and honest about failures."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.figures import online
from tests.bench.load import measure
from tests.bentos.gateway.conftest import CONCURRENCY, KEY, QUEUE, Running
from tests.bentos.processes import ROOT


async def test_a_level_sends_as_many_requests_as_it_was_told() -> None:
    sent: list[int] = []

    async def send(index: int) -> int:
        sent.append(index)
        await asyncio.sleep(0)  # so that users are between request and answer together
        return 2

    level = await measure(send, users=8, requests=20, seconds=60)
    assert sorted(sent) == list(range(20))
    assert (level.units, level.failures, len(level.latencies)) == (40, 0, 20)


async def test_a_level_ends_when_its_time_is_over() -> None:
    async def send(index: int) -> int:
        return 1

    level = await measure(send, users=2, requests=10**9, seconds=0.05)
    assert 0 < level.units < 10**9


def test_the_table_has_a_row_for_each_line_and_level(gateway: Running, tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    command = [sys.executable, "-m", "tests.bench.load", "--url", gateway.url, "--requests", "8"]
    environment = os.environ | {"ATELIER_API_KEYS": KEY, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines()[1:]]
    assert [(row[0], row[1]) for row in rows] == [
        (line, users) for line in ("text", "image") for users in ["1", "8", "32"]
    ]
    # 32 users are more than this gateway admits: the refused ones must show as failed.
    assert int(rows[2][-1]) > 0 and CONCURRENCY + QUEUE < 32
    figure = online.load("tokens/s")(json.loads((tmp_path / "metrics/online/load_text.json").read_text()))
    assert all(f"{row[1]} at a time {row[2]} tokens/s" in figure for row in rows[:3])


def test_a_wrong_key_is_told_in_one_line(gateway: Running) -> None:
    command = [sys.executable, "-m", "tests.bench.load", "--url", gateway.url, "--requests", "1"]
    environment = os.environ | {"ATELIER_API_KEYS": "wrong"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and "Traceback" not in ended.stderr
