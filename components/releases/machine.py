"""The life of a release as data: its states, which moves there are, and what share of users each state sends to it.

Pure. A promotion demotes the champion before it, a withdrawal of the champion reinstates that one: those halves of a
pair are kinds of their own, so that nobody can ask for one without the other.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from itertools import pairwise

from components.stage import StageError


class ReleaseError(StageError):
    """A release was not moved, and nothing of the move is recorded."""


class IllegalMoveError(ReleaseError):
    """The state machine has no such move, or not in this manner."""


class UnknownReleaseError(ReleaseError):
    """No such release, deployment, line or previous champion."""


class StaleTokenError(ReleaseError):
    """Somebody else drives the line's releases by now, or nobody was ever given this token."""


class LeaseHeldError(ReleaseError):
    """Somebody else drives the line's releases and has not finished."""


class State(StrEnum):
    """In the order in which a release comes to them; the last two are where it ends."""

    REGISTERED = "registered"
    VALIDATED = "validated"
    SHADOW = "shadow"
    CANARY_1 = "canary_1"
    CANARY_5 = "canary_5"
    CANARY_25 = "canary_25"
    CANARY_50 = "canary_50"
    AB = "ab"
    CHAMPION = "champion"
    RETIRED = "retired"
    ROLLED_BACK = "rolled_back"


class Kind(StrEnum):
    STEP = "step"
    DIRECT = "direct"
    ROLLBACK = "rollback"
    DEMOTION = "demotion"
    WITHDRAWAL = "withdrawal"
    REINSTATEMENT = "reinstatement"


WAY = tuple(State)[:-2]
OPEN = WAY[:-1]  # not decided yet
TRIAL = OPEN[2:]  # sees requests beside the champion: at most one release of a line
NEXT = dict(pairwise(WAY))
SHARES = {
    State.CANARY_1: 0.01,
    State.CANARY_5: 0.05,
    State.CANARY_25: 0.25,
    State.CANARY_50: 0.5,
    State.AB: 0.5,
}

MOVES: dict[tuple[State, State], Kind] = {
    **dict.fromkeys(pairwise(WAY), Kind.STEP),
    (State.VALIDATED, State.CHAMPION): Kind.DIRECT,  # where a stack cannot serve two releases of a line
    **{(state, State.ROLLED_BACK): Kind.ROLLBACK for state in OPEN},
    (State.CHAMPION, State.RETIRED): Kind.DEMOTION,
    (State.CHAMPION, State.ROLLED_BACK): Kind.WITHDRAWAL,
    (State.RETIRED, State.CHAMPION): Kind.REINSTATEMENT,
}


def kind_of(source: State, target: State, allowed: Collection[Kind]) -> Kind:
    """The kind of the move from `source` to `target`; raises `IllegalMoveError` unless it is an allowed one."""
    kind = MOVES.get((source, target))
    if kind is None:
        ways = ", ".join(to for start, to in MOVES if start is source) or "nowhere"
        raise IllegalMoveError(f"a release goes from {source} to {ways}, not to {target}")
    if kind not in allowed:
        raise IllegalMoveError(f"{source} → {target} is a {kind}, and this call makes only: {', '.join(allowed)}")
    return kind
