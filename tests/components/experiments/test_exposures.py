from __future__ import annotations

import numpy as np
import pytest

from components.experiments.exposures import Epoch, ExperimentError, Exposure, fold
from tests.components.experiments.examples import analysed, experiment

EVEN: list[Epoch] = [(0.0, {"control": 0.5, "treatment": 0.5})]


def exposure(i: int, liked: float = 1.0, *, time: float | None = None, propensity: float = 0.5) -> Exposure:
    variant = ("control", "treatment")[i % 2]
    return Exposure(str(i), float(i) if time is None else time, variant, propensity, {"like": liked})


def test_one_user_decides_nothing() -> None:
    result = analysed(experiment(), [exposure(0)])
    assert (result.verdict, result.interval) == ("inconclusive", (-1.0, 1.0))
    assert result.notes == ("No user has seen treatment yet.",)


@pytest.mark.parametrize("liked", [0.0, 1.0])
def test_constant_outcomes_are_no_difference_and_are_pointed_out(liked: float) -> None:
    result = analysed(experiment(), [exposure(i, liked) for i in range(300)])
    assert result.verdict == "inconclusive"
    assert "check that reactions are recorded" in result.notes[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (exposure(7, float("nan")), "user 7: like is nan, not a number from 0 to 1"),
        (exposure(7, 1.5), "user 7: like is 1.5"),
        (exposure(7, time=float("nan")), "user 7: time is nan"),
        (exposure(7, propensity=0.0), "user 7: propensity is 0.0"),
    ],
)
def test_what_is_no_number_and_a_propensity_of_zero_are_refused_by_name(row: Exposure, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        analysed(experiment(), [exposure(0), row])


def test_rows_out_of_order_change_nothing() -> None:
    rows = [exposure(i, float(i % 3 == 0)) for i in range(60)]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(60)]
    assert analysed(experiment(), shuffled) == analysed(experiment(), rows)


def test_a_user_s_outcome_is_the_mean_over_requests_and_where_nothing_was_measured_there_is_none() -> None:
    values = ({"like": 1.0, "dwell": 0.5}, {"like": 0.0, "dwell": 1.0}, {"like": 0.0, "slow": 1.0})
    (user,) = fold([Exposure("u", float(i), "control", 0.5, v) for i, v in enumerate(values)], EVEN)
    assert user.counted.requests == 3
    assert [user.outcome(m) for m in ("like", "dwell", "slow")] == [pytest.approx(1 / 3), 0.75, 1.0]
    assert np.isnan(user.outcome("failed")) and np.isnan(user.before("like"))


def test_who_saw_two_variants_is_marked_and_variants_that_are_gone_are_left_out() -> None:
    seen = {"both": ("control", "treatment"), "gone": ("retired",), "stays": ("control", "retired")}
    rows = [Exposure(user, 1.0, variant, 0.5, {}) for user, variants in seen.items() for variant in variants]
    assert [(user.counted.requests, user.crossed) for user in fold(rows, EVEN)] == [(1, True), (1, False)]


def test_a_segment_is_that_of_the_first_request_in_whatever_order_they_come() -> None:
    rows = [Exposure("u", at, "control", 0.5, {}, plan) for at, plan in ((5.0, '{"plan": "paid"}'), (1.0, "{}"))]
    for order in (rows, rows[::-1]):
        (user,) = fold(order, EVEN)
        assert (user.first, user.segments) == (1.0, "{}")
