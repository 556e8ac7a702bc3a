"""What the tiers settle of comparisons becomes preferences, for as long as nobody takes an answer back."""

from __future__ import annotations

from sqlalchemy import Engine

from components.annotation import label_studio, tier_store
from components.annotation.label_studio import Answer as Annotation
from components.annotation.preference import settled, task
from components.annotation.template import PREFERENCE
from components.annotation.tier_reconcile import reconcile
from components.config import load
from components.events.database import opened
from components.learning import comparisons
from components.learning.comparisons import BOTH_BAD, CHOICES, LEFT, RIGHT, Comparison
from tests.components.annotation.examples import TIERS, annotation, polled

SETTINGS = load().annotation.model_copy(update={"tiers": TIERS})  # of another template: what was settled stays
PROJECT = label_studio.title(SETTINGS.model_copy(update={"template": PREFERENCE}))
BOAT = Comparison("b0a7", "a boat", "boat: sea", "boat: toy", "response r1 of text-1", "text-2, seed 0")
FOG = Comparison("f09", "fog", "fog: grey", "fog: a cat", "response r2 of text-1", "response r3 of text-1")


def read(engine: Engine, given: list[Annotation]) -> list[str]:
    return reconcile(engine, PROJECT, lambda _: polled(given, [BOAT.sample, FOG.sample]), CHOICES, TIERS).refused


def test_settled_comparisons_say_what_is_better_who_says_so_and_how_it_was_settled(url: str) -> None:
    with opened(url) as engine:
        assert settled(engine, SETTINGS) == []
        comparisons.keep(engine, [BOAT, FOG])
        tier_store.add(engine, PROJECT, {BOAT.sample: "", FOG.sample: ""}, "the chooser")
        boat = [annotation(n, BOAT.sample, n, LEFT if n != 2 else RIGHT) for n in (1, 2, 3)]
        fog = [annotation(10 + n, FOG.sample, n, BOTH_BAD) for n in (1, 2)]
        read(engine, [*boat, *fog])
        (agreed,) = settled(engine, SETTINGS)  # the other one waits for a reviewer
        assert (agreed.comparison, agreed.choice, agreed.pair, agreed.kind) == (FOG, BOTH_BAD, None, "agree")
        reviewed = [*boat, *fog, annotation(4, BOAT.sample, 7, LEFT, 5)]
        read(engine, reviewed)
        first, second = settled(engine, SETTINGS)
        assert (first.comparison, first.pair, first.kind) == (BOAT, (BOAT.left, BOAT.right), "accept")
        assert first.people == ("1", "2", "3", "7") and first.why and first.time > 0 and second == agreed
        read(engine, [annotation(1, BOAT.sample, 1, RIGHT, 9), *reviewed[1:]])  # an edit after review
        assert settled(engine, SETTINGS) == [agreed]


def test_a_choice_that_the_template_does_not_know_counts_for_nothing(url: str) -> None:
    with opened(url) as engine:
        comparisons.keep(engine, [BOAT])
        tier_store.add(engine, PROJECT, {BOAT.sample: ""}, "the chooser")
        (refused,) = read(engine, [annotation(1, BOAT.sample, 1, "the middle")])
        assert "does not know the label 'the middle'" in refused


def test_people_see_two_answers_and_not_where_they_are_from() -> None:
    shown = task(BOAT)
    assert shown.data == {"left": "boat: sea", "right": "boat: toy"}
    assert (shown.text, shown.category) == ("a boat", "")
