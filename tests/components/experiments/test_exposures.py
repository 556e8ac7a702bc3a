from __future__ import annotations

import numpy as np
import pytest

from components.experiments.exposures import ExperimentError, Exposure
from components.experiments.statistics import analyse
from tests.components.experiments.examples import experiment


def exposure(i: int, liked: float = 1.0, *, time: float | None = None, propensity: float = 0.5) -> Exposure:
    variant = ("control", "treatment")[i % 2]
    return Exposure(str(i), float(i) if time is None else time, variant, propensity, liked)


def test_one_user_decides_nothing() -> None:
    result = analyse(experiment(), [exposure(0)])
    assert (result.verdict, result.interval) == ("inconclusive", (-1.0, 1.0))
    assert result.notes == ("No user has seen treatment yet.",)


@pytest.mark.parametrize("liked", [0.0, 1.0])
def test_constant_outcomes_are_no_difference_and_are_pointed_out(liked: float) -> None:
    result = analyse(experiment(), [exposure(i, liked) for i in range(300)])
    assert result.verdict == "inconclusive"
    assert "check that reactions are recorded" in result.notes[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (exposure(7, float("nan")), "user 7: value is nan"),
        (exposure(7, time=float("nan")), "user 7: time is nan"),
        (exposure(7, propensity=0.0), "user 7: propensity is 0.0"),
    ],
)
def test_what_is_no_number_and_a_propensity_of_zero_are_refused_by_name(row: Exposure, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        analyse(experiment(), [exposure(0), row])


def test_rows_out_of_order_change_nothing_and_rows_of_the_future_are_left_out() -> None:
    rows = [exposure(i, float(i % 3 == 0)) for i in range(60)]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(60)]
    assert analyse(experiment(), shuffled, now=100.0) == analyse(experiment(), rows)
    result = analyse(experiment(), [*rows, exposure(61, time=1e9)], now=100.0)
    assert sum(arm.users for arm in result.arms) == 60
    assert result.notes == ("A clock jumped: requests that carry a time in the future and are left out: 1.",)
