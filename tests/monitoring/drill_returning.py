"""How often users who return and react late make a winner of equal variants, at looks every two days."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.monitoring.returning import Looks
from tests.monitoring.test_experiments import TWO_DAYS

REPLAYS, ALPHA = 400, TWO_DAYS.alpha


def test_06_of_400_audiences_of_equal_variants_at_most_5_percent_get_a_winner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = Looks(tmp_path, TWO_DAYS)
    wrong = [seed for seed in range(REPLAYS) if looks.decides(seed, users=200, days=12)]
    with capsys.disabled():
        print(f"\nreturning users, from events to verdict: {len(wrong)} of {REPLAYS} have a winner")
    assert len(wrong) <= ALPHA * REPLAYS
