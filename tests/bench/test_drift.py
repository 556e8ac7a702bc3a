"""The drift benchmark at a small size: the machinery, not its figures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from components.config import load
from components.data import phrases
from components.events.read import get_deployment
from components.events.window import counts
from components.models.language import load_base, write
from monitoring.severity import worst
from tests.bench import drift as bench
from tests.bench.synthetic import Planted
from tests.tiny_language import tiny_chat

PAIRS = [(f"a {colour} {animal}", f"{animal}: {colour}") for colour in ("red", "blue") for animal in "abcdefghijklmno"]
PHRASES = [bench.Phrase(*pair, pair[0]) for pair in PAIRS]


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
    halves, monitor = bench.halve(PHRASES, 1), load().monitor
    assert not set(halves[0]) & set(halves[1])
    slow = [worst(drifts[2:]) for drifts in islice(bench.windows(1, halves, Planted(slower=2.0), monitor, None), 3)]
    assert slow == ["watch", "watch", "act"]
    quiet = [worst(drifts[2:]) for drifts in islice(bench.windows(1, halves, Planted(), monitor, None), 3)]
    assert quiet == ["none"] * 3


@pytest.mark.parametrize("asks_for", ["what the training data has", "what it has nothing about"])
def test_17_a_models_own_outputs_and_its_users_phrases_are_no_drift(
    asks_for: str, assets: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = phrases.samples(assets, 300)
    outputs = write(
        load_base(tiny_base, torch.float32),
        tiny_chat(tiny_base),
        [[("user", s.text)] for s in found],
        max_new_tokens=12,
        temperature=0.7,
        top_p=1.0,
        seed=7,
        batch_size=100,
    )
    known, unseen = bench.halve(
        [bench.Phrase(s.text, output, s.meta["concept"]) for s, output in zip(found, outputs, strict=True)], 1
    )
    monkeypatch.setattr(bench, "ROWS", 160)
    monkeypatch.setattr(bench, "REFERENCE", 300)
    users = unseen if asks_for == "what it has nothing about" else known
    windows = islice(bench.windows(1, (known, users), Planted(), load().monitor, None), 2)
    assert [(drift.name, drift.words) for drifts in windows for drift in drifts if drift.severity != "none"] == []
