"""Phrases become comparisons once, on sides that favour no answer; what the tiers settle of them becomes preferences.

For as long as nobody takes an answer back.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from components.annotation import comparisons, label_studio, task_store
from components.annotation.comparisons import (
    LONGEST,
    Candidate,
    Comparison,
    ComparisonSource,
    Preference,
    compare,
    distinct,
    settled,
)
from components.annotation.label_studio import RemoteAnnotation
from components.annotation.phrase_queue import phrase_id
from components.annotation.sync import reconcile
from components.annotation.template import Choice, Template
from components.config import load
from components.events.database import opened
from tests.components.annotation.examples import TIERS, annotation, changes

OLD, NEW = Candidate("a boat", "boat: sea", "response r1"), Candidate("a boat", "boat: toy", "text-2, seed 0")
SETTINGS = load().annotation.model_copy(update={"tiers": TIERS})  # of another template: what was settled stays
PROJECT = label_studio.title(SETTINGS.model_copy(update={"template": Template.PREFERENCE.value}))
BOAT = Comparison("b0a7", "a boat", "boat: sea", "boat: toy", "response r1 of text-1", "text-2, seed 0")
FOG = Comparison("f09", "fog", "fog: grey", "fog: a cat", "response r2 of text-1", "response r3 of text-1")


def test_answers_to_one_phrase_stand_together_each_once_and_urgent_phrases_come_first() -> None:
    others = [
        Candidate("a car", "car", "r1"),
        Candidate("fog", "fog: grey", "r2"),
        Candidate("Fog ", "fog:  white", "r3"),
        Candidate("fog", "fog:\tgrey", "r4"),
        Candidate("a hen", " ", "r5"),
        Candidate("x" * (LONGEST + 1), "too long to read", "r6"),
    ]
    found = distinct([OLD], [*others, NEW])
    assert [[candidate.output for candidate in group] for group in found.values()] == [
        ["boat: sea", "boat: toy"],
        ["fog: grey", "fog:  white"],
        ["car"],
    ]
    assert list(found) == [phrase_id("a boat"), phrase_id(" FOG"), phrase_id("a car")]


def test_neither_the_older_nor_the_newer_answer_is_favoured_and_a_phrase_keeps_its_sides() -> None:
    made = [compare(phrase_id(f"thing {n}"), OLD, NEW) for n in range(400)]
    assert 160 < sum(one.left == OLD.output for one in made) < 240
    assert all({one.left_origin, one.right_origin} == {OLD.origin, NEW.origin} for one in made)
    assert made[0] == compare(phrase_id("Thing 0"), OLD, NEW)


def test_a_comparison_is_kept_as_it_was_first_made(url: str) -> None:
    first = compare(phrase_id("a boat"), OLD, NEW)
    with opened(url) as engine:
        comparisons.store_comparisons(engine, [first])
        comparisons.store_comparisons(engine, [compare(first.sample, OLD, Candidate("a boat", "something else", "r9"))])
        assert comparisons.read_comparisons(engine) == {first.sample: first}


@pytest.mark.parametrize(
    ("choice", "better"),
    [(Choice.LEFT, "left"), (Choice.RIGHT, "right"), (Choice.SAME, ""), (Choice.BOTH_BAD, ""), ("", "")],
)
def test_only_a_preferred_side_gives_a_pair(choice: str, better: str) -> None:
    comparison = comparisons.Comparison("0", "a boat", "left", "right", "r1", "r2")
    pair = Preference(comparison, choice, ("1",), "accept", "why", 1.0).pair
    assert pair == ((better, "right" if better == "left" else "left") if better else None)


def read(engine: Engine, given: list[RemoteAnnotation]) -> list[str]:
    return reconcile(
        engine, PROJECT, lambda _: changes(given, [BOAT.sample, FOG.sample]), ComparisonSource.labels, TIERS
    ).refused


def test_settled_comparisons_say_what_is_better_who_says_so_and_how_it_was_settled(url: str) -> None:
    with opened(url) as engine:
        assert settled(engine, SETTINGS) == []
        comparisons.store_comparisons(engine, [BOAT, FOG])
        task_store.add_tasks(engine, PROJECT, {BOAT.sample: "", FOG.sample: ""}, "the chooser")
        boat = [annotation(n, BOAT.sample, n, Choice.LEFT if n != 2 else Choice.RIGHT) for n in (1, 2, 3)]
        fog = [annotation(10 + n, FOG.sample, n, Choice.BOTH_BAD) for n in (1, 2)]
        read(engine, [*boat, *fog])
        (agreed,) = settled(engine, SETTINGS)  # the other one waits for a reviewer
        assert (agreed.comparison, agreed.choice, agreed.pair, agreed.kind) == (FOG, Choice.BOTH_BAD, None, "agree")
        reviewed = [*boat, *fog, annotation(4, BOAT.sample, 7, Choice.LEFT, 5)]
        read(engine, reviewed)
        first, second = settled(engine, SETTINGS)
        assert (first.comparison, first.pair, first.kind) == (BOAT, (BOAT.left, BOAT.right), "accept")
        assert first.people == ("1", "2", "3", "7") and first.why and first.time > 0 and second == agreed
        read(engine, [annotation(1, BOAT.sample, 1, Choice.RIGHT, 9), *reviewed[1:]])  # an edit after review
        assert settled(engine, SETTINGS) == [agreed]


def test_a_choice_that_the_template_does_not_know_counts_for_nothing(url: str) -> None:
    with opened(url) as engine:
        comparisons.store_comparisons(engine, [BOAT])
        task_store.add_tasks(engine, PROJECT, {BOAT.sample: ""}, "the chooser")
        (refused,) = read(engine, [annotation(1, BOAT.sample, 1, "the middle")])
        assert "does not know the label 'the middle'" in refused


def test_people_see_two_answers_and_not_where_they_are_from(url: str) -> None:
    with opened(url) as engine:
        comparisons.store_comparisons(engine, [BOAT])
        task_store.add_tasks(engine, PROJECT, {BOAT.sample: ""}, "the chooser")
        tasks = task_store.read_tasks(engine, PROJECT)
        (shown,) = ComparisonSource(SETTINGS, engine, tasks, lambda: ([], []), lambda _: []).payloads(tasks)
    assert shown.data == {"left": "boat: sea", "right": "boat: toy"}
    assert (shown.text, shown.category) == ("a boat", "")
