from __future__ import annotations

import numpy as np

from components.experiments.comparison import confidence_sequence, predictions
from tests.components.experiments.simulate import stream, users_to_decision


def test_a_prediction_knows_only_earlier_users() -> None:
    users = stream(0.3, 0.0, 200, seed=(1, 0), requests=3)
    whole = predictions(users.outcomes, users.before)
    changed = users.outcomes.copy()
    changed[120:] = 1 - changed[120:]
    assert np.array_equal(predictions(changed, users.before)[:121], whole[:121])
    assert whole.min() >= 0
    assert whole.max() <= 1


def test_a_telling_past_narrows_the_interval_and_covers_the_truth() -> None:
    plain, better = 0.0, 0.0
    for users in (stream(0.3, 0.3, 1500, seed=(2, i), requests=3) for i in range(8)):
        _, low, high = confidence_sequence(users.outcomes, users.treated, 0.5, 0.05)
        _, cuped_low, cuped_high = confidence_sequence(users.outcomes, users.treated, 0.5, 0.05, users.before)
        assert cuped_low < 0.09 < cuped_high
        plain, better = plain + high - low, better + cuped_high - cuped_low
    assert better < 0.9 * plain


def test_no_past_a_constant_past_or_half_a_past_change_nothing_or_little() -> None:
    users = stream(0.3, 0.0, 500, seed=(3, 0), requests=3)
    mean = predictions(users.outcomes, np.full(500, np.nan))
    assert np.allclose(mean[1:], np.cumsum(users.outcomes)[:-1] / np.arange(1, 500))
    assert np.allclose(predictions(users.outcomes, np.full(500, 0.4)), mean)
    half = np.where(np.arange(500) % 2, users.before, np.nan)
    errors = [np.mean((users.outcomes - p) ** 2) for p in (predictions(users.outcomes, users.before), mean)]
    assert errors[0] < np.mean((users.outcomes - predictions(users.outcomes, half)) ** 2) < errors[1]


def test_equal_variants_are_seldom_told_apart() -> None:
    """Nominal level 5 % at all looks together; `bench` does this at length."""
    replays = (stream(0.3, 0.0, 1500, seed=(4, i), requests=3).effects(cuped=True) for i in range(200))
    assert sum(np.isfinite(users_to_decision(x, 0.05, 50)) for x in replays) <= 10
