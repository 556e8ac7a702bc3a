from __future__ import annotations

import numpy as np
import pytest

from components.experiments.thompson import best, weights


def test_the_chance_of_being_best_agrees_with_drawing_from_the_posteriors() -> None:
    tallies = {"a": (30, 70), "b": (38, 62), "c": (2, 3), "d": (4000, 6000)}
    rng = np.random.default_rng(0)
    draws = np.stack([rng.beta(1 + liked, 1 + not_liked, 200_000) for liked, not_liked in tallies.values()])
    drawn = np.bincount(draws.argmax(axis=0), minlength=4) / 200_000
    assert best(tallies) == pytest.approx(drawn, abs=0.005)


def test_without_data_all_are_equal_and_a_hopeless_one_keeps_the_floor() -> None:
    assert list(weights({"a": (0, 0), "b": (0, 0)}, 0.1).values()) == pytest.approx([0.5, 0.5])
    given = weights({"good": (900, 100), "bad": (100, 900)}, 0.05)
    assert given["bad"] == pytest.approx(0.05)
    assert sum(given.values()) == pytest.approx(1)


def test_it_sends_more_users_to_the_better_variant_than_an_even_split() -> None:
    rng, liked, shown = np.random.default_rng(3), np.zeros(2), np.zeros(2)
    for _ in range(40):
        tallies = {name: (liked[i], shown[i] - liked[i]) for i, name in enumerate("ab")}
        batch = rng.multinomial(50, list(weights(tallies, 0.05).values()))
        shown += batch
        liked += rng.binomial(batch, [0.3, 0.45])
    assert shown[1] / shown.sum() > 0.75
