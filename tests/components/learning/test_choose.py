"""What annotators are asked about: what is least covered, and no two of a kind."""

from __future__ import annotations

import numpy as np

from components.learning.choose import least_covered


def unit(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_farthest_from_the_training_data_comes_first_and_its_like_not_again() -> None:
    assert least_covered(unit(5, 90, 92, 40), unit(0), count=4, near=0.95) == [2, 3]


def test_the_count_bounds_it_and_nothing_covered_is_asked() -> None:
    assert least_covered(unit(60, 120, 180), unit(0), count=1, near=0.99) == [2]
    assert least_covered(unit(1, 2), unit(0), count=5, near=0.99) == []
    assert least_covered(np.empty((0, 2), np.float32), unit(0), count=5, near=0.99) == []


def test_without_any_training_data_everything_different_is_asked() -> None:
    assert sorted(least_covered(unit(0, 90, 180), np.empty((0, 2), np.float32), count=9, near=0.9)) == [0, 1, 2]
