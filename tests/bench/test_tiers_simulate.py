from __future__ import annotations

import pytest

from tests.bench.tiers_simulate import World, interval, simulate
from tests.components.annotation.examples import TIERS

SMALL = World(labels=4, items=300, waves=5)


def test_three_tiers_are_as_right_as_a_majority_of_five_for_fewer_answers() -> None:
    outcomes = [simulate(SMALL, TIERS, seed) for seed in range(3)]
    assert interval([o.accuracy for o in outcomes])[0] > interval([o.majority for o in outcomes])[0] - 0.005
    assert all(2 < o.cost < 5 for o in outcomes)
    assert all(o.answers["gold"] > 0 for o in outcomes)
    assert simulate(SMALL, TIERS, 0) == outcomes[0]


def test_who_answers_at_random_costs_answers_but_not_the_labels() -> None:
    seeds = range(3)
    with_them = World(labels=4, items=300, waves=5, random=3)
    assert interval([simulate(with_them, TIERS, seed).accuracy for seed in seeds])[0] > 0.97


def test_an_interval_holds_its_mean_and_is_a_point_where_nothing_varies() -> None:
    mean, low, high = interval([0.98, 0.99, 1.0])
    assert (mean, low < 0.98, high > 1.0) == (pytest.approx(0.99), True, True)
    assert interval([0.5, 0.5]) == (0.5, 0.5, 0.5)
