"""The life of a labelling task: annotate → review → arbitrate, and which move its answers make due.

Pure: no database and no clock. Several annotators answer a task, more of them where they disagree; a reviewer answers
where the annotators alone are not certain, and an arbiter adjudicates where the tiers disagree. `task_store.py` keeps
the tasks, `sync.py` brings them to Label Studio and the answers back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from components.config import Tiers
from components.stage import StageError


class TierError(StageError):
    """Nothing of the call is recorded; the message names the task, the value and what to do."""


class Tier(StrEnum):
    ANNOTATE = "annotate"
    REVIEW = "review"
    ARBITRATE = "arbitrate"


class State(StrEnum):
    """Which tier has to answer, or how it ended."""

    ANNOTATE = "annotate"
    REVIEW = "review"
    ARBITRATE = "arbitrate"
    DONE = "done"
    DISCARDED = "discarded"


class MoveKind(StrEnum):
    """Why a task goes from one state to another."""

    CREATE = "create"
    AGREE = "agree"  # the annotators are certain by themselves
    SUBMIT = "submit"
    ACCEPT = "accept"
    FIX = "fix"  # the reviewer's other label, with which all answers together are certain
    REJECT = "reject"
    DISPUTE = "dispute"
    DECIDE = "decide"
    DISCARD = "discard"
    REOPEN = "reopen"  # an answer that this rests on was edited or deleted


ORDER = tuple(State)
ENDED = (State.DONE, State.DISCARDED)
TARGETS = {
    MoveKind.AGREE: State.DONE,
    MoveKind.SUBMIT: State.REVIEW,
    MoveKind.ACCEPT: State.DONE,
    MoveKind.FIX: State.DONE,
    MoveKind.REJECT: State.ANNOTATE,
    MoveKind.DISPUTE: State.ARBITRATE,
    MoveKind.DECIDE: State.DONE,
    MoveKind.DISCARD: State.DISCARDED,
}


@dataclass(frozen=True)
class Answer:
    """What a person said of a task in a tier. Without a label a reviewer rejects it, an arbiter discards it."""

    person: str
    tier: Tier
    label: str
    why: str = ""


@dataclass(frozen=True)
class Step:
    """A move that is due: the label that it settles (empty where it settles none) and the reason for the record."""

    kind: MoveKind
    label: str
    why: str

    @property
    def target(self) -> State:
        return TARGETS[self.kind]


Aggregate = Callable[[Sequence[Answer]], tuple[str, float]]  # the likeliest label of some answers, and how likely


def next_step(
    state: State, answers: Sequence[Answer], rejections: int, aggregate: Aggregate, tiers: Tiers
) -> Step | None:
    """The move that a task's current answers make due, or None while it waits for more of them.

    `rejections`: how often a reviewer has sent the task back.
    """
    annotations = [answer for answer in answers if answer.tier is Tier.ANNOTATE]
    if state is State.ANNOTATE and annotations:
        return _after_annotating(annotations, aggregate, tiers)
    if state is State.REVIEW and (review := _last(answers, Tier.REVIEW)):
        return _after_review(review, annotations, rejections, aggregate, tiers)
    if state is State.ARBITRATE and (ruling := _last(answers, Tier.ARBITRATE)):
        return Step(
            MoveKind.DECIDE if ruling.label else MoveKind.DISCARD, ruling.label, ruling.why or "the arbiter's word"
        )
    return None


def highest_tier(person: str, tiers: Tiers) -> Tier:
    """The highest tier that a person answers in."""
    if person in tiers.arbiters:
        return Tier.ARBITRATE
    return Tier.REVIEW if person in tiers.reviewers else Tier.ANNOTATE


def check_allowed(answer: Answer, earlier: Iterable[Answer], labels: Sequence[str]) -> None:
    """Refuse an answer that breaks a rule; `earlier`: every answer that the task ever had, also those set aside."""
    if any(other.person == answer.person and other.tier is not answer.tier for other in earlier):
        raise TierError(
            f"{answer.person} has had a hand in this task and cannot {answer.tier} it; somebody else has to"
        )
    if answer.label and answer.label not in labels:
        raise TierError(f"the template does not know the label {answer.label!r}; it knows {', '.join(labels)}")
    if not answer.label and answer.tier is Tier.ANNOTATE:
        raise TierError("an annotation needs exactly one label")
    if not answer.label and not answer.why:
        raise TierError(f"to {'reject' if answer.tier is Tier.REVIEW else 'discard'} a task needs a reason")


def _after_annotating(annotations: Sequence[Answer], aggregate: Aggregate, tiers: Tiers) -> Step | None:
    label, sure = aggregate(annotations)
    count = len(annotations)
    if count < tiers.first:
        return None
    why = f"{label!r} is {100 * sure:.1f} % likely after {count} annotations"
    if sure >= tiers.certain:
        return Step(MoveKind.AGREE, label, why)
    if sure >= tiers.review_from or count >= tiers.most:
        return Step(MoveKind.SUBMIT, "", why)
    return None


def _after_review(
    review: Answer, annotations: Sequence[Answer], rejections: int, aggregate: Aggregate, tiers: Tiers
) -> Step:
    proposed, _ = aggregate(annotations)
    if not review.label:
        if rejections < tiers.rejections:
            return Step(MoveKind.REJECT, "", review.why)
        return Step(MoveKind.DISPUTE, "", f"rejected once more: {review.why}")
    if review.label == proposed:
        return Step(MoveKind.ACCEPT, proposed, review.why or f"the reviewer says {proposed!r} too")
    label, sure = aggregate([*annotations, review])
    reason = f"{review.label!r} instead of {proposed!r}" + (f": {review.why}" if review.why else "")
    if label == review.label and sure >= tiers.certain:
        return Step(MoveKind.FIX, label, reason)
    return Step(MoveKind.DISPUTE, "", reason)


def _last(answers: Sequence[Answer], tier: Tier) -> Answer | None:
    return next((answer for answer in reversed(answers) if answer.tier is tier), None)
