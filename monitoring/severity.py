"""How urgent a drift is: none, watch, or act once the same column has moved in enough consecutive windows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from monitoring.drift import ColumnTest, Drift, Severity, describe

ORDER = tuple(Severity)  # from the least urgent on


@dataclass(frozen=True)
class Past:
    """An earlier run's window (epoch seconds) and its drifts."""

    since: float
    until: float
    drifts: tuple[Drift, ...]


def worst(drifts: Sequence[Drift]) -> Severity:
    """The most urgent severity of a run; where nothing moved but something is unknown, that it is unknown."""
    return max((drift.severity for drift in drifts), key=ORDER.index, default=Severity.NOT_ENOUGH_DATA)


def grade(drifts: Sequence[Drift], history: Sequence[Past], since: float, persistence: int) -> list[Drift]:
    """Drifts with "act" where a column moved in `persistence` windows in a row, the one from `since` included.

    `history` is newest first. Windows that overlap the one after them repeat its evidence and are left out; so is one
    that had too little data, which says neither yes nor no. Each reference has a count of its own.
    """
    windows = consecutive(history, since)
    return [_grade(drift, windows, persistence) for drift in drifts]


def consecutive(history: Sequence[Past], since: float) -> list[Past]:
    """Windows that end before the next one begins, newest first."""
    chosen: list[Past] = []
    for past in history:
        if past.until <= since:
            chosen.append(past)
            since = past.since
    return chosen


def _grade(drift: Drift, windows: Sequence[Past], persistence: int) -> Drift:
    tests = tuple(_count(drift, test, windows) for test in drift.tests)
    longest = max((test.windows for test in tests), default=0)
    if not longest:
        return drift
    act = longest >= persistence
    count = f"In {longest} window{'s' if longest > 1 else ''} in a row"
    words = f"{describe(tests)} {count}{'' if act else f'; {persistence} are needed to act'}."
    return replace(drift, severity=Severity.ACT if act else Severity.WATCH, words=words, tests=tests)


def _count(drift: Drift, test: ColumnTest, windows: Sequence[Past]) -> ColumnTest:
    """`test` with its row of windows; a suspect column that moved in the window before has moved again."""
    before = _before(drift, test, windows)
    if test.moved:
        return replace(test, windows=1 + before)
    return replace(test, moved=True, words="still moved", windows=1 + before) if test.suspect and before else test


def _before(drift: Drift, test: ColumnTest, windows: Sequence[Past]) -> int:
    """In how many of the latest windows in a row the column moved against the same reference."""
    same = (d for past in windows for d in past.drifts if (d.name, d.against) == (drift.name, drift.against))
    moved = (then.moved for d in same for then in d.tests if then.checked and then.column == test.column)
    return sum(takewhile(bool, moved))
