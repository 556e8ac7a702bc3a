from __future__ import annotations

import pytest

from components.annotation.workflow import (
    Answer,
    MoveKind,
    State,
    Tier,
    TierError,
    check_allowed,
    next_step,
)
from tests.components.annotation.examples import CROWD, LABELS, TIERS


def annotations(*labels: str) -> list[Answer]:
    return [Answer(f"annotator {i}", Tier.ANNOTATE, label) for i, label in enumerate(labels)]


def review(label: str, why: str = "") -> Answer:
    return Answer("reviewer", Tier.REVIEW, label, why)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["food"], None),  # a first answer is never enough
        (["food", "food"], MoveKind.AGREE),
        (["food", "face"], None),  # they disagree: one more
        (["food", "face", "food"], MoveKind.SUBMIT),
        (["food", "face", "food", "food"], MoveKind.AGREE),
        (["food", "face", "place"], None),
        (["food", "face", "place", "animal"], MoveKind.SUBMIT),  # no more annotators than that
    ],
)
def test_k_adapts_to_disagreement(labels: list[str], kind: MoveKind | None) -> None:
    step = next_step(State.ANNOTATE, annotations(*labels), 0, CROWD.aggregate, TIERS)
    assert (step.kind if step else None) == kind
    assert step is None or "% likely after" in step.why


@pytest.mark.parametrize(
    ("labels", "verdict", "rejections", "kind", "label"),
    [
        (["food", "food"], review("food"), 0, MoveKind.ACCEPT, "food"),
        (["food", "food"], review("face"), 0, MoveKind.DISPUTE, ""),
        (["food", "face", "food", "face"], review("food"), 0, MoveKind.FIX, "food"),
        (["food", "food"], review("", "nothing to see"), 0, MoveKind.REJECT, ""),
        (["food", "food"], review("", "nothing to see"), 1, MoveKind.DISPUTE, ""),
    ],
)
def test_an_arbiter_is_asked_only_where_the_tiers_disagree(
    labels: list[str], verdict: Answer, rejections: int, kind: MoveKind, label: str
) -> None:
    step = next_step(State.REVIEW, [*annotations(*labels), verdict], rejections, CROWD.aggregate, TIERS)
    assert step
    assert (step.kind, step.label) == (kind, label)


def test_the_arbiters_word_ends_a_task() -> None:
    before = [*annotations("food", "food"), review("face")]
    for label, why, kind in (("food", "", MoveKind.DECIDE), ("", "two things in one picture", MoveKind.DISCARD)):
        step = next_step(
            State.ARBITRATE, [*before, Answer("arbiter", Tier.ARBITRATE, label, why)], 0, CROWD.aggregate, TIERS
        )
        assert step
        assert (step.kind, step.label) == (kind, label)
    assert next_step(State.ARBITRATE, before, 0, CROWD.aggregate, TIERS) is None
    assert next_step(State.DONE, before, 0, CROWD.aggregate, TIERS) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer("annotator 0", Tier.REVIEW, "food"), "annotator 0 has had a hand in this task"),
        (Answer("annotator 1", Tier.ARBITRATE, "food"), "cannot arbitrate it"),
        (Answer("somebody", Tier.ANNOTATE, "sports"), "does not know the label 'sports'; it knows animal"),
        (Answer("somebody", Tier.ANNOTATE, ""), "exactly one label"),
        (Answer("somebody", Tier.REVIEW, ""), "to reject a task needs a reason"),
        (Answer("somebody", Tier.ARBITRATE, ""), "to discard a task needs a reason"),
    ],
)
def test_what_nobody_may_answer_is_refused_in_words(answer: Answer, words: str) -> None:
    with pytest.raises(TierError, match=words):
        check_allowed(answer, annotations("food", "food"), LABELS)
