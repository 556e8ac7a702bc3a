"""Phrases become comparisons once, on sides that favour no answer, and settled ones say what is better."""

from __future__ import annotations

import pytest

from components.events.database import opened
from components.learning import comparisons
from components.learning.comparisons import BOTH_BAD, LEFT, LONGEST, RIGHT, SAME, Given, Preference, compared, different
from components.learning.labels import name_of

OLD, NEW = Given("a boat", "boat: sea", "response r1"), Given("a boat", "boat: toy", "text-2, seed 0")


def test_answers_to_one_phrase_stand_together_each_once_and_urgent_phrases_come_first() -> None:
    others = [
        Given("a car", "car", "r1"),
        Given("fog", "fog: grey", "r2"),
        Given("Fog ", "fog:  white", "r3"),
        Given("fog", "fog:\tgrey", "r4"),
        Given("a hen", " ", "r5"),
        Given("x" * (LONGEST + 1), "too long to read", "r6"),
    ]
    found = different([OLD], [*others, NEW])
    assert [[one.output for one in given] for given in found.values()] == [
        ["boat: sea", "boat: toy"],
        ["fog: grey", "fog:  white"],
        ["car"],
    ]
    assert list(found) == [name_of("a boat"), name_of(" FOG"), name_of("a car")]


def test_neither_the_older_nor_the_newer_answer_is_favoured_and_a_phrase_keeps_its_sides() -> None:
    made = [compared(name_of(f"thing {n}"), OLD, NEW) for n in range(400)]
    assert 160 < sum(one.left == OLD.output for one in made) < 240
    assert all({one.left_origin, one.right_origin} == {OLD.origin, NEW.origin} for one in made)
    assert made[0] == compared(name_of("Thing 0"), OLD, NEW)


def test_a_comparison_is_kept_as_it_was_first_made(url: str) -> None:
    first = compared(name_of("a boat"), OLD, NEW)
    with opened(url) as engine:
        comparisons.keep(engine, [first])
        comparisons.keep(engine, [compared(first.sample, OLD, Given("a boat", "something else", "r9"))])
        assert comparisons.known(engine) == {first.sample: first}


@pytest.mark.parametrize(("choice", "better"), [(LEFT, "left"), (RIGHT, "right"), (SAME, ""), (BOTH_BAD, ""), ("", "")])
def test_only_a_preferred_side_gives_a_pair(choice: str, better: str) -> None:
    comparison = comparisons.Comparison("0", "a boat", "left", "right", "r1", "r2")
    pair = Preference(comparison, choice, ("1",), "accept", "why", 1.0).pair
    assert pair == ((better, "right" if better == "left" else "left") if better else None)
