"""Calls are compared in turns, after a warm-up, with an interval for their ratio, beside the load of the machine."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.timing import Load, interleaved_seconds, paired_ratio


def test_calls_take_turns_after_one_warm_up_each() -> None:
    order: list[str] = []
    seconds = interleaved_seconds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert all(len(values) == 3 and min(values) >= 0 for values in seconds.values())


def test_18_the_interval_covers_the_median_ratio_of_noisy_rounds() -> None:
    """With ten rounds whose noise both calls share, and noise of each one's own, skewed as interruptions are."""
    rng, covered = np.random.default_rng(7), 0
    for _ in range(400):
        busy = 1 + rng.exponential(1.0, 10)
        slow, fast = (factor * busy * np.exp(rng.exponential(0.2, 10)) for factor in (3.0, 1.0))
        found = paired_ratio(slow.tolist(), fast.tolist())
        assert found.low <= found.ratio <= found.high
        covered += found.low <= 3.0 <= found.high
    assert covered >= 0.95 * 400


def test_18_too_few_rounds_give_no_interval() -> None:
    with pytest.raises(ValueError, match="5 rounds are too few"):
        paired_ratio([2.0] * 5, [1.0] * 5)


def test_18_the_work_of_others_is_no_negative_number_of_cores_and_at_most_all() -> None:
    with Load() as load:
        sum(range(2_000_000))
    machine = load.machine()
    assert 0 <= machine["cores_busy_with_other_work"] <= machine["cores"] + 0.5
