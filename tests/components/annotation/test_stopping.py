"""The expected remaining gain, on curves whose rest is known."""

from __future__ import annotations

import numpy as np
import pytest

from components.annotation.stopping import CurveError, outlook

LABELS = np.arange(20.0, 401, 20)
HELD_OUT = 1000


def curve(limit: float, slope: float, decay: float, seed: int) -> np.ndarray:
    accuracies = limit - slope * LABELS**-decay
    return np.random.default_rng(seed).binomial(HELD_OUT, accuracies) / HELD_OUT


@pytest.mark.parametrize(("limit", "slope", "decay"), [(0.95, 2, 0.7), (0.8, 1, 0.4), (0.97, 1, 0.5)])
def test_the_interval_covers_what_the_rest_brings(limit: float, slope: float, decay: float) -> None:
    true = slope * (400**-decay - 1000**-decay)
    outlooks = [
        outlook(LABELS, curve(limit, slope, decay, seed), HELD_OUT, 600, np.random.default_rng(0)) for seed in range(5)
    ]
    assert sum(one.low <= true <= one.high for one in outlooks) >= 4
    assert all(one.low <= one.gain <= one.high for one in outlooks)


def test_a_curve_gone_flat_says_stop_and_a_rising_one_goes_on_and_prices_a_point() -> None:
    flat = outlook(LABELS, curve(0.9, 5, 1.2, 1), HELD_OUT, 600, np.random.default_rng(0))
    rising = outlook(LABELS, curve(0.95, 1.5, 0.35, 1), HELD_OUT, 600, np.random.default_rng(0))
    assert flat.enough(worth=0.02)
    assert flat.next_point is None
    assert "less than one point" in str(flat)
    assert not rising.enough(worth=0.02)
    assert rising.low <= 0.0505 <= rising.high  # what the true curve still gains


def test_the_next_point_is_priced_in_labels() -> None:
    exact = outlook(LABELS, 0.95 - 1.5 * LABELS**-0.35, 10**6, 600, np.random.default_rng(0))
    assert exact.next_point == pytest.approx(68, abs=2)  # of the true curve, by hand
    assert f"about {exact.next_point} more labels for the next point" in str(exact)


def test_nothing_left_to_label_brings_nothing() -> None:
    found = outlook(LABELS, curve(0.9, 2, 0.7, 1), HELD_OUT, 0, np.random.default_rng(0))
    assert (found.gain, found.low, found.high, found.next_point) == (0, 0, 0, None)
    assert found.enough(worth=0.001)


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 1.0])
def test_a_constant_curve_expects_next_to_nothing(accuracy: float) -> None:
    found = outlook(LABELS, np.full(len(LABELS), accuracy), HELD_OUT, 600, np.random.default_rng(0))
    assert found.gain < 0.005


@pytest.mark.parametrize(
    ("labels", "accuracies", "said"),
    [
        (LABELS[:3], np.full(3, 0.5), "3 label counts and 3 accuracies; expected 5 or more"),
        (LABELS, np.full(len(LABELS), np.nan), "expected accuracies from 0 to 1"),
        (LABELS - 20, np.full(len(LABELS), 0.5), "label counts and held-out rows of 1 or more"),
    ],
)
def test_what_is_no_curve_is_refused(labels: np.ndarray, accuracies: np.ndarray, said: str) -> None:
    with pytest.raises(CurveError, match=said):
        outlook(labels, accuracies, HELD_OUT, 10, np.random.default_rng(0))
