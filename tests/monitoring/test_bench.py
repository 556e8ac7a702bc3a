"""The drift benchmark at a small size: the machinery, not its figures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from components.config import load
from components.events.read import get_deployment
from components.events.window import counts
from monitoring import bench
from monitoring.severity import worst
from monitoring.synthetic import Planted

PAIRS = [(f"a {colour} {animal}", f"{animal}: {colour}") for colour in ("red", "blue") for animal in "abcdefghijklmno"]


def test_the_database_is_filled_with_two_windows_of_both_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BEFORE", {"text": 30, "image": 20})
    monkeypatch.setattr(bench, "DURING", {"text": 50, "image": 10})
    monkeypatch.setattr(bench, "CHUNK", 17)
    url = f"sqlite:///{tmp_path / 'events.db'}"
    assert bench.fill(url, PAIRS) > 220
    rows = counts(url, bench.NOW - bench.HOUR, bench.NOW, 24)[2]
    assert sum(row["requests"] for row in rows if row["line"] == "text") == 50
    assert sum(row["requests"] for row in rows if row["line"] == "image") == 10
    assert get_deployment(url, "image-1") is not None


def test_a_planted_drift_is_acted_on_and_quiet_traffic_is_not() -> None:
    halves, monitor = bench.halve(PAIRS, 1), load().monitor
    assert not set(halves[0]) & set(halves[1])
    slow = [worst(drifts[2:]) for drifts in islice(bench.windows(1, halves, Planted(slower=2.0), monitor, None), 3)]
    assert slow == ["watch", "watch", "act"]
    quiet = [worst(drifts[2:]) for drifts in islice(bench.windows(1, halves, Planted(), monitor, None), 3)]
    assert quiet == ["none"] * 3
