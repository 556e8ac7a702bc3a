"""What the project's own strategies look for on data where it is plain.

What a batch promises whatever the strategy is tested with all of them, in `tests/bench/test_annotation_strategies.py`.
"""

from __future__ import annotations

import numpy as np

from components.annotation.acquisition import least_covered, mixed, select, typiclust
from tests.bench.test_annotation_strategies import blobs, drawn, rng


def test_typiclust_asks_the_largest_heap_first_and_its_middle_rather_than_its_edge() -> None:
    embeddings, heap = blobs((60, 20, 30))
    first = select(typiclust, np.full((1, 110, 2), 0.5), embeddings, heap == 2, 1, rng())[0]
    assert heap[first] != 2
    from_middle = np.linalg.norm(embeddings - embeddings[heap == heap[first]].mean(0), axis=1)
    assert from_middle[first] < np.median(from_middle[heap == heap[first]])


def test_the_default_asks_about_one_of_a_pair_of_equals() -> None:
    _, embeddings = drawn(4, 20)
    twice = np.concatenate([embeddings, embeddings, rng(5).normal(size=(10, 4))])
    probabilities = np.full((1, 50, 2), 0.5)
    chosen = select(mixed, probabilities, twice, np.arange(50) >= 40, 10, rng())
    assert len(set(chosen % 20)) == 10


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
