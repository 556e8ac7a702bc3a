"""A line's releases in words, for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from components.releases.plan import candidate_of, champion_of
from components.releases.schema import Move, Release


def summary(line: str, releases: Sequence[Release], moves: Sequence[Move], served: str | None) -> str:
    """One line on a line: champion, candidate, the last move, and what this machine serves if that is another."""
    if not moves:
        return f"{line}: no release recorded yet; `atelier release start` makes one"
    champion, candidate = champion_of(releases), candidate_of(releases)
    parts = [f"champion {_standing(champion)}", f"candidate {_standing(candidate)}", f"last move {describe(moves[-1])}"]
    if champion and served != champion.deployment:
        ways = f"`atelier release start` completes that, `atelier release rollback {line}` serves the champion again"
        parts.append(f"THIS MACHINE SERVES {served or 'nothing'}: {ways}")
    return f"{line}: " + "; ".join(parts)


def describe(move: Move) -> str:
    """One move: when, what, in which manner, by whom and why."""
    way = f"{move.source} → {move.target}" if move.source else str(move.target)
    return f"{clock(move.time)} {move.release} {way} ({move.kind}) by {move.who}: {move.why}"


def _standing(release: Release | None) -> str:
    return f"{release.release} ({release.state} since {clock(release.since)})" if release else "none"


def clock(time: float) -> str:
    """An epoch time as people read it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
