"""What a labelling batch promises whatever the strategy, and what each strategy looks for on data where it is plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.annotation_strategies import DEFAULT, STRATEGIES, select

EVERY = pytest.mark.parametrize("name", STRATEGIES)


def drawn(seed: int, rows: int, classes: int = 3, features: int = 4, members: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), (members, rows)), rng.normal(size=(rows, features))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@EVERY
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), rows=st.integers(1, 40), share=st.floats(0, 1), count=st.integers(0, 50))
def test_a_batch_is_as_large_as_asked_or_as_what_is_left_and_has_no_label_and_no_row_twice(
    name: str, seed: int, rows: int, share: float, count: int
) -> None:
    probabilities, embeddings = drawn(seed, rows)
    labelled = rng(seed).random(rows) < share
    chosen = select(name, probabilities, embeddings, labelled, count, rng(seed))
    assert len(chosen) == min(count, int((~labelled).sum()))
    assert not labelled[chosen].any()
    assert len(set(chosen.tolist())) == len(chosen)


@EVERY
def test_equal_generators_choose_alike_and_the_arrays_stay_as_they_were(name: str) -> None:
    probabilities, embeddings = drawn(1, 60)
    labelled = np.arange(60) < 5
    before = probabilities.copy(), embeddings.copy(), labelled.copy()
    first, second = (select(name, probabilities, embeddings, labelled, 7, rng(3)) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert all(np.array_equal(a, b) for a, b in zip(before, (probabilities, embeddings, labelled), strict=True))


@pytest.mark.parametrize("name", ["entropy", "margin", "bald", "core-set", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_rows_decides_nothing(name: str, seed: int) -> None:
    probabilities, embeddings = drawn(seed, 50)
    labelled = np.arange(50) < 6
    order = rng(seed).permutation(50)
    plain = select(name, probabilities, embeddings, labelled, 8, rng(1))
    shuffled = select(name, probabilities[:, order], embeddings[order], labelled[order], 8, rng(2))
    assert set(plain.tolist()) == set(order[shuffled].tolist())


@EVERY
@pytest.mark.parametrize("labels", [0, 1, 9])
def test_rows_that_are_all_the_same_give_a_full_batch(name: str, labels: int) -> None:
    labelled = np.arange(30) < labels
    chosen = select(name, np.full((2, 30, 3), 1 / 3), np.ones((30, 4)), labelled, 10, rng())
    assert len(set(chosen.tolist())) == 10
    assert not labelled[chosen].any()


@EVERY
def test_one_class_and_one_row_are_data_too(name: str) -> None:
    _, embeddings = drawn(0, 12)
    assert len(select(name, np.ones((1, 12, 1)), embeddings, np.arange(12) < 2, 4, rng())) == 4
    assert select(name, np.ones((1, 1, 1)), embeddings[:1], np.zeros(1, bool), 4, rng()).tolist() == [0]
    assert select(name, np.ones((1, 1, 1)), embeddings[:1], np.ones(1, bool), 4, rng()).tolist() == []


def test_an_unknown_strategy_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'guess': not one of random, entropy, .*mixed"):
        select("guess", np.ones((1, 1, 1)), np.ones((1, 1)), np.zeros(1, bool), 1, rng())


SURE, TORN, SPREAD = [0.98, 0.01, 0.01], [0.49, 0.49, 0.02], [0.5, 0.25, 0.25]


def test_margin_asks_where_two_classes_tie_and_entropy_where_all_do() -> None:
    probabilities = np.array([[SURE, TORN, SPREAD]])
    none = np.zeros(3, bool)
    assert select("margin", probabilities, np.eye(3), none, 1, rng()).tolist() == [1]
    assert select("entropy", probabilities, np.eye(3), none, 1, rng()).tolist() == [2]


def test_bald_asks_where_members_disagree_not_where_all_are_unsure() -> None:
    unsure, disagreeing = [[0.5, 0.5]] * 2, [[0.95, 0.05], [0.05, 0.95]]
    probabilities = np.array([unsure, disagreeing]).transpose(1, 0, 2)
    assert select("bald", probabilities, np.eye(2), np.zeros(2, bool), 1, rng()).tolist() == [1]


def blobs(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings in far and tight heaps, on the axes; and the heap of each."""
    heap = np.repeat(np.arange(len(sizes)), sizes)
    return 10 * np.eye(len(sizes))[heap] + rng(0).normal(0, 0.3, (len(heap), len(sizes))), heap


@pytest.mark.parametrize("name", ["typiclust", "mixed", "core-set"])
def test_with_no_labels_yet_each_heap_is_asked_about_once(name: str) -> None:
    embeddings, heap = blobs((60, 20, 30, 5))
    uniform = np.full((1, len(heap), 4), 0.25)
    chosen = select(name, uniform, embeddings, np.zeros(len(heap), bool), 4, rng())
    assert sorted(heap[chosen]) == [0, 1, 2, 3]


def test_the_default_spends_a_batch_on_every_uncertain_heap_where_margin_spends_it_on_one() -> None:
    embeddings, heap = blobs((10, 10, 10, 90))
    unsure = np.array([0.50, 0.51, 0.52, 0.99])[heap]
    probabilities = np.stack([unsure, 1 - unsure], axis=1)[None]
    labelled = np.arange(120) >= 110
    assert set(heap[select("margin", probabilities, embeddings, labelled, 3, rng())]) == {0}
    assert set(heap[select(DEFAULT, probabilities, embeddings, labelled, 3, rng())]) == {0, 1, 2}


def test_badge_prefers_the_unsure_and_does_not_ask_twice_about_equals() -> None:
    embeddings, heap = blobs((20, 20))
    embeddings = np.round(embeddings)  # all of a heap are equal
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0]])[heap][None]
    chosen = select("badge", probabilities, embeddings, np.zeros(40, bool), 1, rng())
    assert heap[chosen].tolist() == [0]
