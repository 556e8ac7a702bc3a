from __future__ import annotations

import numpy as np
import pytest

from components.experiments.exposures import ExperimentError
from components.experiments.thompson import Tally, best, weights


def test_the_chance_of_being_best_agrees_with_drawing_from_the_posteriors() -> None:
    tallies = {"a": Tally(30, 70), "b": Tally(38, 62), "c": Tally(2, 3), "d": Tally(4000, 6000)}
    rng = np.random.default_rng(0)
    draws = np.stack([rng.beta(1 + t.liked, 1 + t.not_liked, 200_000) for t in tallies.values()])
    drawn = np.bincount(draws.argmax(axis=0), minlength=4) / 200_000
    assert best(tallies) == pytest.approx(drawn, abs=0.005)


def test_without_data_all_are_equal_and_a_hopeless_one_keeps_the_floor() -> None:
    assert list(weights({"a": Tally(0, 0), "b": Tally(0, 0)}, 0.1).values()) == pytest.approx([0.5, 0.5])
    given = weights({"good": Tally(900, 100), "bad": Tally(100, 900)}, 0.05)
    assert given["bad"] == pytest.approx(0.05)
    assert sum(given.values()) == pytest.approx(1)


def test_it_sends_more_users_to_the_better_variant_than_an_even_split() -> None:
    rng, liked, shown = np.random.default_rng(3), np.zeros(2), np.zeros(2)
    for _ in range(40):
        tallies = {name: Tally(liked[i], shown[i] - liked[i]) for i, name in enumerate("ab")}
        batch = rng.multinomial(50, list(weights(tallies, 0.05).values()))
        shown += batch
        liked += rng.binomial(batch, [0.3, 0.45])
    assert shown[1] / shown.sum() > 0.75


@pytest.mark.parametrize("floor", [0.0, 0.6, float("nan")])
def test_a_floor_that_does_not_fit_is_refused(floor: float) -> None:
    with pytest.raises(ExperimentError, match="floor"):
        weights({"a": Tally(1, 1), "b": Tally(1, 1)}, floor)


@pytest.mark.parametrize("count", [-1.0, float("nan"), float("inf")])
def test_a_tally_that_is_no_count_is_refused(count: float) -> None:
    with pytest.raises(ExperimentError, match="variant a"):
        best({"a": Tally(count, 1), "b": Tally(1, 1)})
