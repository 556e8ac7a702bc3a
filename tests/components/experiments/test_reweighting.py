"""Weights that change under way: who is moved counts once, and what is said of the variants stays true."""

from __future__ import annotations

import numpy as np
import pytest

from components.experiments.assignment import assign, place
from components.experiments.exposures import Epoch, Exposure, expected, fold
from components.experiments.statistics import Analysis, analyse, sample_ratio
from tests.components.experiments.examples import experiment, placed

OLD = placed(experiment())
NEW = place(experiment(control=0.2, treatment=0.8), OLD.users, OLD.variants)
CHANGED = 1000.0
EPOCHS: list[Epoch] = [(0.0, OLD.experiment.weights), (CHANGED, NEW.experiment.weights)]


def audience(seed: int, users: int, effect: float = 0.0) -> list[Exposure]:
    """Half of the users come before the weights change; of those, who likes more comes back afterwards, too."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(users):
        taste, user, early = rng.random(), f"{seed}-{i}", i < users / 2
        visits = [CHANGED * i / users] * early + [CHANGED + i] * (not early or rng.random() < taste)
        for time in visits:
            given = assign(OLD if time < CHANGED else NEW, user)
            chance = min(taste * 0.6 + effect * (given.variant == "treatment"), 1.0)
            like = float(rng.random() < chance)
            rows.append(Exposure(user, time, given.variant, given.propensity, {"like": like}))
    return rows


def said(rows: list[Exposure]) -> Analysis:
    return analyse(NEW.experiment, fold(rows, EPOCHS))


def test_who_is_moved_counts_for_the_variant_they_saw_first_with_what_they_did_under_it() -> None:
    rows = [
        Exposure("u", 1.0, "control", 0.5, {"like": 1.0}),
        Exposure("u", CHANGED + 1, "treatment", 0.8, {"like": 0}),
    ]
    for order in (rows, rows[::-1]):
        (user,) = fold(order, EPOCHS)
        assert (user.variant, user.outcome("like"), user.requests) == ("control", 1.0, 1)
        assert (user.moved, user.crossed, user.unexplained) == (True, False, False)
    (user,) = fold([*rows, Exposure("u", CHANGED + 2, "control", 0.2, {"like": 1.0})], EPOCHS)
    assert (user.moved, user.crossed) == (False, True)  # two variants under the same weights: a bug


def test_the_expected_split_is_that_of_the_weights_at_first_exposures() -> None:
    users = fold(audience(0, 4000), EPOCHS)
    counts = {name: sum(user.variant == name for user in users) for name in ("control", "treatment")}
    assert expected(users) == pytest.approx({"control": 2000 * 0.5 + 2000 * 0.2, "treatment": 2000 * 0.5 + 2000 * 0.8})
    assert sample_ratio(counts, expected(users)) > 0.001
    assert sample_ratio(counts, NEW.experiment.weights) < 1e-6
    stayed = [user for user in users if not user.moved]  # as if those moved were left out
    left = {name: sum(user.variant == name for user in stayed) for name in counts}
    assert sample_ratio(left, expected(stayed)) < 1e-6


def test_equal_variants_stay_equal_although_the_most_eager_users_are_moved() -> None:
    results = [said(audience(seed, 400)) for seed in range(60)]
    assert sum(result.verdict != "inconclusive" for result in results) <= 5
    assert not any(result.srm for result in results)
    assert all(result.moved > 10 for result in results)
    errors = [result.difference for result in results]
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors))


def test_a_difference_is_found_and_covered() -> None:
    result = said(audience(3, 3000, effect=0.25))
    assert result.verdict == "treatment better"
    assert result.interval[0] < 0.25 < result.interval[1]


def test_where_weights_follow_likes_nothing_is_compared_and_a_broken_split_is_still_seen() -> None:
    following = NEW.experiment.model_copy(update={"policy": "thompson"})
    users = fold(audience(4, 400), EPOCHS)
    result = analyse(following, users)
    assert (result.comparisons, result.guards, result.verdict) == ((), (), "inconclusive")
    assert "Thompson sampling moves its weights to what is liked" in result.reason
    broken = analyse(following, [user for user in users if user.variant == "control"])
    assert broken.srm and "sample-ratio" in broken.reason
