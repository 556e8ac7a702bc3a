"""The life of a labelling task: annotate → review → arbitrate, and what the answers so far make of it.

Pure: knows no database, no clock and no people, only their answers. How sure these make one of a label is asked of
`believe`. k annotators answer, more where they disagree; a reviewer is asked where these are not certain by themselves,
an arbiter only where the tiers disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from components.config import Tiers
from components.stage import StageError


class TierError(StageError):
    """Nothing of the call is recorded; the message names the task, the value and what to do."""


class OwnWorkError(TierError):
    """Somebody would review or arbitrate a task that they had a hand in."""


class OvertakenError(TierError):
    """The task, or the reconcile, has been overtaken by somebody else's since it was read."""


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


class Kind(StrEnum):
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
MOVES: dict[Kind, tuple[State, State]] = {
    Kind.AGREE: (State.ANNOTATE, State.DONE),
    Kind.SUBMIT: (State.ANNOTATE, State.REVIEW),
    Kind.ACCEPT: (State.REVIEW, State.DONE),
    Kind.FIX: (State.REVIEW, State.DONE),
    Kind.REJECT: (State.REVIEW, State.ANNOTATE),
    Kind.DISPUTE: (State.REVIEW, State.ARBITRATE),
    Kind.DECIDE: (State.ARBITRATE, State.DONE),
    Kind.DISCARD: (State.ARBITRATE, State.DISCARDED),
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
    """A move that is due, with the label that it settles (empty where it settles none) and the reason."""

    kind: Kind
    label: str
    why: str

    @property
    def target(self) -> State:
        return MOVES[self.kind][1]


Believe = Callable[[Sequence[Answer]], tuple[str, float]]


def next_step(state: State, answers: Sequence[Answer], rejections: int, believe: Believe, tiers: Tiers) -> Step | None:
    """What the current answers make of a task, or None while it waits for more of them.

    `rejections`: how often a reviewer has sent it back; `believe`: the likeliest label of some answers, and how likely.
    """
    annotations = [answer for answer in answers if answer.tier is Tier.ANNOTATE]
    if state is State.ANNOTATE and annotations:
        return _after_annotating(annotations, believe, tiers)
    if state is State.REVIEW and (review := _last(answers, Tier.REVIEW)):
        return _after_review(review, annotations, rejections, believe, tiers)
    if state is State.ARBITRATE and (ruling := _last(answers, Tier.ARBITRATE)):
        return Step(Kind.DECIDE if ruling.label else Kind.DISCARD, ruling.label, ruling.why or "the arbiter's word")
    return None


def check_allowed(answer: Answer, earlier: Iterable[Answer], labels: Sequence[str]) -> None:
    """Refuse what nobody may answer; `earlier`: every answer that the task ever had, also those set aside."""
    if any(one.person == answer.person and one.tier is not answer.tier for one in earlier):
        raise OwnWorkError(
            f"{answer.person} has had a hand in this task and cannot {answer.tier} it; somebody else has to"
        )
    if answer.label and answer.label not in labels:
        raise TierError(f"the template does not know the label {answer.label!r}; it knows {', '.join(labels)}")
    if not answer.label and answer.tier is Tier.ANNOTATE:
        raise TierError("an annotation needs exactly one label")
    if not answer.label and not answer.why:
        raise TierError(f"to {'reject' if answer.tier is Tier.REVIEW else 'discard'} a task needs a reason")


def _after_annotating(annotations: Sequence[Answer], believe: Believe, tiers: Tiers) -> Step | None:
    label, sure = believe(annotations)
    count = len(annotations)
    if count < tiers.first:
        return None
    why = f"{label!r} is {100 * sure:.1f} % likely after {count} annotations"
    if sure >= tiers.certain:
        return Step(Kind.AGREE, label, why)
    if sure >= tiers.review_from or count >= tiers.most:
        return Step(Kind.SUBMIT, "", why)
    return None


def _after_review(
    review: Answer, annotations: Sequence[Answer], rejections: int, believe: Believe, tiers: Tiers
) -> Step:
    proposed, _ = believe(annotations)
    if not review.label:
        if rejections < tiers.rejections:
            return Step(Kind.REJECT, "", review.why)
        return Step(Kind.DISPUTE, "", f"rejected once more: {review.why}")
    if review.label == proposed:
        return Step(Kind.ACCEPT, proposed, review.why or f"the reviewer says {proposed!r} too")
    label, sure = believe([*annotations, review])
    words = f"{review.label!r} instead of {proposed!r}" + (f": {review.why}" if review.why else "")
    if label == review.label and sure >= tiers.certain:
        return Step(Kind.FIX, label, words)
    return Step(Kind.DISPUTE, "", words)


def _last(answers: Sequence[Answer], tier: Tier) -> Answer | None:
    return next((answer for answer in reversed(answers) if answer.tier is tier), None)
