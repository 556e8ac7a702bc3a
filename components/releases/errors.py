"""What can be wrong with a move of a release; every message names the thing, the value and what to do."""

from __future__ import annotations

from components.stage import StageError


class ReleaseError(StageError):
    """A release was not moved, and nothing of the move is recorded."""


class IllegalMoveError(ReleaseError):
    """The state machine has no such move, or not in this manner."""


class UnknownReleaseError(ReleaseError):
    """No such release, deployment, line or previous champion."""


class LostRaceError(ReleaseError):
    """The release has moved since its version was read."""


class StaleTokenError(ReleaseError):
    """Somebody else drives the line's releases by now, or nobody was ever given this token."""


class LeaseHeldError(ReleaseError):
    """Somebody else drives the line's releases and has not finished."""
