"""Users who do not fall into variants by their weights are found, and looking often finds none who do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from components.experiments.statistics import mismatch


def assigned(rng: np.random.Generator, given_nK: NDArray[np.float64]) -> NDArray[np.int64]:
    return (rng.random((len(given_nK), 1)) > np.cumsum(given_nK, axis=1)).sum(axis=1)


def test_08_looked_at_after_every_user_right_weights_are_seldom_called_wrong() -> None:
    """At 0.1 % in 300 experiments of 10,000 users; the chi-square test, looked at after every 50, is wrong in 1.7 %."""
    rng, given = np.random.default_rng(8), np.full((10_000, 2), 0.5)
    assert sum(mismatch(assigned(rng, given), given) < 0.001 for _ in range(300)) <= 1


def test_08_weights_that_changed_under_way_are_no_mismatch() -> None:
    rng = np.random.default_rng(9)
    given = np.repeat([[0.5, 0.5, 0.0], [0.2, 0.5, 0.3], [0.05, 0.05, 0.9]], 500, axis=0)
    assert sum(mismatch(assigned(rng, given), given) < 0.01 for _ in range(300)) <= 6
    wrong = np.repeat([[0.5, 0.5, 0.0], [0.2, 0.5, 0.3], [0.3, 0.05, 0.65]], 500, axis=0)
    assert mismatch(assigned(rng, wrong), given) < 0.001


@pytest.mark.parametrize(("share", "users"), [(0.5, 1), (0.6, 1000), (0.52, 20_000)])
def test_a_wrong_split_is_found_within_so_many_users(share: float, users: int) -> None:
    got = assigned(np.random.default_rng(10), np.tile([share, 1 - share], (users, 1)))
    assert (mismatch(got, np.full((users, 2), 0.5)) < 0.001) == (share != 0.5)


def test_what_was_found_once_stays_found() -> None:
    got = np.concatenate((np.zeros(100, dtype=np.int64), np.tile([0, 1], 5000)))
    given = np.full((got.size, 2), 0.5)
    assert mismatch(got, given) <= mismatch(got[:100], given[:100]) < 0.001


def test_a_variant_that_nobody_could_get_and_nobody_at_all() -> None:
    assert mismatch(np.array([1]), np.array([[1.0, 0.0]])) == 0.0
    assert mismatch(np.array([], dtype=np.int64), np.empty((0, 2))) == 1.0
