from __future__ import annotations

import numpy as np
import pytest

from components.experiments.comparison import interval, log_wealth
from tests.components.experiments.simulate import crossing


def test_the_interval_is_where_no_bet_has_won() -> None:
    x = np.random.default_rng(1).uniform(-2, 2, 400) * 0.5 + 0.2
    low, high = interval(x, bound=2.0, alpha=0.05)
    assert log_wealth(x, low, 2.0).max() >= np.log(40) > log_wealth(x, low + 0.001, 2.0).max()
    assert log_wealth(-x, -high, 2.0).max() >= np.log(40) > log_wealth(-x, -high + 0.001, 2.0).max()
    assert low < 0.2 < high


def test_an_interval_excludes_zero_exactly_when_a_bet_against_it_has_won() -> None:
    for seed in range(40):
        x = np.random.default_rng(seed).choice([-2.0, 2.0], 300, p=[0.43, 0.57])
        won = min(crossing(x, 0.0, 2.0, 0.025), crossing(-x, 0.0, 2.0, 0.025))
        low, high = interval(x, 2.0, 0.05)
        assert (low > 0 or high < 0) == np.isfinite(won)


def test_more_data_never_widens_it() -> None:
    x = np.random.default_rng(2).uniform(-2, 2, 600)
    ends = np.array([interval(x[:n], 2.0, 0.05) for n in (1, 10, 100, 600)])
    assert np.all(np.diff(ends[:, 0]) >= 0)
    assert np.all(np.diff(ends[:, 1]) <= 0)
    assert tuple(ends[0]) == (-1.0, 1.0)


@pytest.mark.parametrize("bound", [2.0, 20.0])
def test_wealth_survives_the_worst_that_can_come(bound: float) -> None:
    for mean in (-1.0, 0.0, 1.0):
        assert np.all(np.isfinite(log_wealth(np.full(50, -bound), mean, bound)))


def test_07_of_a_mean_that_moved_the_bounds_contradict_each_other() -> None:
    low, high = interval(np.concatenate((np.full(500, 0.8), np.full(5000, -0.8))), 2.0, 0.05)
    assert high < low
