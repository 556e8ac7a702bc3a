from __future__ import annotations

import numpy as np
import pytest

from components.experiments.comparison import confidence_sequence
from components.experiments.exposures import Exposure
from components.experiments.statistics import sample_ratio
from tests.components.experiments.examples import analysed, experiment


def audience(seed: int, users: int, effect: float, *, per_user: int = 3, share: float = 0.5) -> list[Exposure]:
    """Users of different generosity who come back, their requests interleaved; treatment adds `effect` to a like."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        treated = rng.random() < share
        chance = np.clip(rng.normal(0.45, 0.2) + effect * treated, 0, 1)
        arrival = rng.random()
        for visit in range(per_user):
            rows.append(
                Exposure(
                    user_key=str(user),
                    time=arrival + 0.1 * visit * rng.random(),
                    variant="treatment" if treated else "control",
                    propensity=share if treated else 1 - share,
                    values={"like": float(rng.random() < chance)},
                )
            )
    return sorted(rows, key=lambda row: row.time)


def test_looking_often_at_equal_variants_seldom_finds_a_winner() -> None:
    """Nominal level 5 % for all looks together; 60 experiments with 6 looks each, of users who come back."""
    false = 0
    for seed in range(60):
        rows = audience(seed, users=90, effect=0.0)
        looks = [analysed(experiment(), rows[: len(rows) * look // 6]) for look in range(1, 7)]
        false += any(look.verdict != "inconclusive" for look in looks)
    assert false <= 5


def test_a_fixed_sample_interval_would_not_have_been_safe() -> None:
    """What the always-valid interval is for: the ordinary one, looked at after every user, errs far above 5 %."""
    false = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = rng.random((2, 300)) < 0.5
        n = np.arange(20, 301)
        difference = (np.cumsum(a) / np.arange(1, 301) - np.cumsum(b) / np.arange(1, 301))[19:]
        false += bool(np.any(np.abs(difference) > 1.96 * np.sqrt(0.5 / n)))
    assert false > 40


@pytest.mark.parametrize(("effect", "verdict"), [(0.35, "treatment better"), (-0.35, "control better")])
def test_a_large_difference_is_found(effect: float, verdict: str) -> None:
    result = analysed(experiment(), audience(1, users=400, effect=effect))
    assert result.verdict == verdict
    assert result.interval[0] < effect < result.interval[1]


def test_the_interval_covers_the_difference_under_unequal_weights() -> None:
    treated = np.random.default_rng(3).random(1500) < 0.2
    outcomes = (np.random.default_rng(4).random(1500) < np.where(treated, 0.6, 0.4)).astype(float)
    difference, low, high = confidence_sequence(outcomes, treated, share=0.2, alpha=0.05)
    assert low < 0.2 < high
    assert difference == pytest.approx(0.2, abs=0.08)


def test_one_enthusiast_with_many_requests_counts_as_one_user() -> None:
    rows = audience(2, users=60, effect=0.0)
    fan = [Exposure("fan", 2.0 + i, "treatment", 0.5, {"like": 1.0}) for i in range(5000)]
    result = analysed(experiment(), rows + fan)
    assert result.verdict == "inconclusive"
    assert sum(arm.users for arm in result.arms) == 61


def test_a_wrong_split_of_users_makes_the_verdict_inconclusive() -> None:
    rows = [
        Exposure(str(i), float(i), "treatment" if i % 4 else "control", 0.5, {"like": float(i % 4 > 0)})
        for i in range(400)
    ]
    result = analysed(experiment(), rows)
    assert result.srm
    assert result.verdict == "inconclusive"
    assert "sample-ratio" in result.reason


def test_sample_ratio_follows_the_weights() -> None:
    assert sample_ratio({"control": 910, "treatment": 90}, {"control": 0.9, "treatment": 0.1}) > 0.05
    assert sample_ratio({"control": 500, "treatment": 500}, {"control": 0.9, "treatment": 0.1}) < 1e-6
    assert sample_ratio({}, {"control": 0.5, "treatment": 0.5}) == 1.0


def test_a_propensity_that_no_weights_gave_makes_the_verdict_inconclusive() -> None:
    rows = audience(5, users=400, effect=0.4, share=0.5)
    result = analysed(experiment(control=0.4, treatment=0.6, alpha=0.05), rows)
    assert result.verdict == "inconclusive"
    assert "no recorded version of the weights" in result.reason


def test_a_user_of_both_variants_is_left_out_and_counted() -> None:
    both = [
        Exposure("both", 0.0, "control", 0.5, {"like": 1.0}),
        Exposure("both", 1.0, "treatment", 0.5, {"like": 1.0}),
    ]
    result = analysed(experiment(), both)
    assert result.crossed_over == 1
    assert sum(arm.users for arm in result.arms) == 0


def test_before_the_first_user_nothing_is_known() -> None:
    result = analysed(experiment(), [])
    assert (result.verdict, result.interval) == ("inconclusive", (-1.0, 1.0))
