from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.drift import Drift, number_drift, text_drift

ANIMALS = ["fox", "hen", "cat", "owl", "bee", "ant", "cow", "pig"]
COLOURS = ["red", "blue", "green", "grey"]
KINDS = ["sticker", "drawing", "badge"]


def phrases(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"a {rng.choice(COLOURS)} {rng.choice(ANIMALS)} {rng.choice(KINDS)}" for _ in range(count)]


def letters(texts: Sequence[str]) -> NDArray[np.float32]:
    """A stand-in for MiniLM: unit vectors of letter counts."""
    counts = np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz "] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def check(current: list[str], detail: Path | None = None) -> Drift:
    return text_drift("prompts", phrases(0, 400), current, embed=letters, min_rows=50, drift_share=0.5, detail=detail)


def test_the_same_kind_of_prompts_is_no_drift() -> None:
    assert not any(check(phrases(seed, 100)).drifted for seed in (1, 2, 3))


def test_other_prompts_are_drift_and_the_words_name_what_moved(tmp_path: Path) -> None:
    invoices = [f"URGENT: invoice {i} über the quarterly revenue of our company, in a table" for i in range(60)]
    result = check(phrases(1, 60) + invoices, tmp_path / "detail.html")
    assert result.drifted
    assert "characters" in result.words
    assert "meaning" in result.words
    assert result.detail == "detail.html"
    page = (tmp_path / "detail.html").read_text()
    assert len(page) > 100_000  # Evidently's page with its own script inside


def test_the_same_words_said_of_other_things_are_drift_of_meaning() -> None:
    result = check(["a red fox badge"] * 100)
    meaning = next(test for test in result.tests if test.column.startswith("meaning"))
    assert meaning.drifted


def test_too_few_rows_are_not_checked_and_it_says_so() -> None:
    result = check(phrases(1, 49))
    assert not result.checked
    assert not result.drifted
    assert "49 rows and 50 are needed" in result.words


def test_slower_answers_are_drift_of_latency() -> None:
    rng = np.random.default_rng(0)
    before, same, slower = (pd.DataFrame({"latency (s)": rng.gamma(4, scale, 80)}) for scale in (0.1, 0.1, 0.2))
    say = {"min_rows": 50, "drift_share": 0.5, "against": "the window before"}
    assert not number_drift("latency", before, same, **say).drifted
    assert number_drift("latency", before, slower, **say).drifted
