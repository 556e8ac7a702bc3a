"""Labelling played again: what a curve says, and that strategies of one seed are pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.bench.annotation_replay import BUDGET_SHARE, Curve, Dataset, replay, strength
from tests.bench.annotation_strategies import STRATEGIES


@pytest.fixture(scope="module")
def heaps() -> Dataset:
    """Three classes in five heaps, of which one is rare: easy once each heap has a label."""
    rng = np.random.default_rng(0)
    heap = np.repeat(np.arange(5), (60, 50, 40, 40, 10))
    return Dataset("heaps", 3 * np.eye(5)[heap] + rng.normal(0, 0.5, (200, 5)), heap % 3, np.arange(200))


def curve(*accuracies: float) -> Curve:
    labels = tuple(10 * (i + 1) for i in range(len(accuracies)))
    return Curve("random", 0, labels, accuracies, full=1.0, pool=100, held_out=50)


def test_the_target_counts_once_it_is_held_and_never_is_infinite() -> None:
    assert curve(0.5, 0.96, 0.94, 0.96, 0.97).needed == 40
    assert math.isinf(curve(0.5, 0.6, 0.96).needed)
    assert math.isinf(curve(0.5, 0.96, 0.94, 0.96, 0.94).needed)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_spends_its_budget_and_learns(heaps: Dataset, name: str) -> None:
    found = replay(heaps, name, 1, 1.0)
    assert found.labels[0] == 10
    assert list(found.labels) == sorted(set(found.labels))
    assert BUDGET_SHARE * found.pool <= found.labels[-1] <= found.pool
    assert found.accuracies[-1] >= 0.95 * found.full > 0.8


def test_strategies_of_one_seed_share_split_and_start_and_another_seed_does_not(heaps: Dataset) -> None:
    by_chance, by_margin, other = (replay(heaps, n, s, 1.0) for n, s in (("random", 1), ("margin", 1), ("random", 2)))
    assert (by_chance.full, by_chance.accuracies[0]) == (by_margin.full, by_margin.accuracies[0])
    assert replay(heaps, "random", 1, 1.0) == by_chance
    assert other.accuracies != by_chance.accuracies


def test_views_of_one_thing_never_stand_on_both_sides(heaps: Dataset) -> None:
    """Labels that only a shared row could teach are not learned."""
    rng = np.random.default_rng(0)
    things = np.repeat(np.arange(100), 2)
    noise = Dataset(
        "noise", np.repeat(rng.normal(size=(100, 50)), 2, axis=0), rng.integers(2, size=100)[things], things
    )
    assert replay(noise, "random", 0, 10.0).full < 0.75


def test_regularisation_is_one_of_the_known_strengths(heaps: Dataset) -> None:
    assert strength(heaps) in (0.1, 1.0, 10.0)
