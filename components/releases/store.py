"""The one place that moves releases. Each call is one transaction on one line: fenced, compared by version, recorded.

A promotion retires the champion before it in the same transaction, and a rollback reinstates that one: a line that has
had a champion has exactly one from then on. Raises the errors of `components.releases.machine`; a call that raises has
changed nothing.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, select, update

from components.events.database import Database, reading, writing
from components.events.ledger import Note
from components.events.schema import DEPLOYMENTS
from components.releases.leases import fence
from components.releases.machine import OPEN, Kind, State, UnknownReleaseError, kind_of
from components.releases.schema import LEDGER, MOVES, RELEASES, Move, Release


def register(engine: Engine, deployment: str, note: Note, token: int) -> Release:
    """Begin the release of a recorded deployment; the one that is under way already, where there is one.

    A deployment that was retired or rolled back may be released again: that is another release, of the next number.
    """
    with writing(engine, f"release of {deployment}") as connection:
        line = connection.scalar(select(DEPLOYMENTS.c.line).where(DEPLOYMENTS.c.deployment == deployment))
        if line is None:
            raise UnknownReleaseError(f"no deployment {deployment!r} is recorded; `atelier release start` records one")
        fence(connection, line, token)
        earlier = _select(connection, RELEASES.c.deployment == deployment)
        if under_way := [release for release in earlier if release.state in OPEN]:
            return under_way[0]
        begun = Release(f"{deployment}.{len(earlier) + 1}", line, deployment, State.REGISTERED, 1, time.time())
        connection.execute(insert(RELEASES).values(vars(begun)))
        _record(connection, begun, None, Kind.STEP, note, token)
        return begun


def move(
    engine: Engine, release: str, expected_version: int, to: State, note: Note, token: int, *, direct: bool = False
) -> Release:
    """Move a release on, or back; `direct` is the express wish to skip shadow and canary on the way to champion."""
    allowed = (Kind.STEP, Kind.ROLLBACK, *([Kind.DIRECT] if direct else []))
    with writing(engine, f"move of {release} to {to}") as connection:
        line = _require(connection, release).line
        fence(connection, line, token)
        LEDGER.require_newest(connection, expected_version, release)
        before = _require(connection, release)  # again: only now does nobody else move it
        kind = kind_of(before.state, to, allowed)
        if to is State.CHAMPION:
            for champion in _in_state(connection, line, State.CHAMPION):
                demoted = Note(note.who, f"{release} became champion: {note.why}")
                _change(connection, champion, State.RETIRED, Kind.DEMOTION, demoted, token)
        return _change(connection, before, to, kind, note, token)


def rollback(engine: Engine, line: str, note: Note, token: int) -> Release:
    """Withdraw a line's champion and reinstate the one before it, which is returned."""
    with writing(engine, f"rollback of line {line}") as connection:
        fence(connection, line, token)
        champions, retired = (_in_state(connection, line, state) for state in (State.CHAMPION, State.RETIRED))
        if not champions or not retired:
            now = champions[0].release if champions else "nothing"
            raise UnknownReleaseError(f"line {line} has no champion before {now} to go back to; release another")
        _change(connection, champions[0], State.ROLLED_BACK, Kind.WITHDRAWAL, note, token)
        return _change(connection, retired[-1], State.CHAMPION, Kind.REINSTATEMENT, note, token)


def current(database: Database, line: str) -> list[Release]:
    """All releases of a line as they stand, in the order of their last moves."""
    with reading(database, "releases") as connection:
        return _select(connection, RELEASES.c.line == line)


def gone(database: Database, line: str) -> set[str]:
    """Deployments that no release of a line has in service, or on its way there, any more."""
    releases = current(database, line)
    here = {release.deployment for release in releases if release.state in (State.CHAMPION, *OPEN)}
    return {release.deployment for release in releases} - here


def history(database: Database, line: str) -> list[Move]:
    """All moves on a line, oldest first."""
    query = select(MOVES).join(RELEASES, MOVES.c.release == RELEASES.c.release).where(RELEASES.c.line == line)
    with reading(database, "releases") as connection:
        return [_move(row) for row in connection.execute(query.order_by(MOVES.c.id)).mappings()]


def _select(connection: Connection, condition: ColumnElement[bool]) -> list[Release]:
    """Releases in the order of their last moves; by number, as clocks may be set back."""
    last = select(func.max(MOVES.c.id)).where(MOVES.c.release == RELEASES.c.release).scalar_subquery()
    rows = connection.execute(select(RELEASES).where(condition).order_by(last)).mappings()
    return [Release(**{**row, "state": State(row["state"])}) for row in rows]


def _require(connection: Connection, release: str) -> Release:
    rows = _select(connection, RELEASES.c.release == release)
    if not rows:
        raise UnknownReleaseError(f"no release {release!r}; `atelier release history LINE` names a line's releases")
    return rows[0]


def _in_state(connection: Connection, line: str, state: State) -> list[Release]:
    return _select(connection, (RELEASES.c.line == line) & (RELEASES.c.state == state))


def _change(connection: Connection, before: Release, to: State, kind: Kind, note: Note, token: int) -> Release:
    """Move a release of a line that is fenced."""
    after = Release(before.release, before.line, before.deployment, to, before.version + 1, time.time())
    connection.execute(update(RELEASES).where(RELEASES.c.release == before.release).values(vars(after)))
    _record(connection, after, before.state, kind, note, token)
    return after


def _record(connection: Connection, after: Release, source: State | None, kind: Kind, note: Note, token: int) -> None:
    row = {
        "release": after.release,
        "version": after.version,
        "source": source,
        "target": after.state,
        "kind": kind,
        "evidence": dict(note.evidence),
        "token": token,
    }
    LEDGER.append(connection, [row], note, at=after.since)


def _move(row: Any) -> Move:
    fields = {name: value for name, value in row.items() if name != "id"}
    source = State(row["source"]) if row["source"] else None
    return Move(**fields | {"source": source, "target": State(row["target"]), "kind": Kind(row["kind"])})
