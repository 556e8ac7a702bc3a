"""Releases, their moves and who drives them: frozen rows, and the tables of the events database that hold them.

The database itself refuses a second champion of a line and a second release on trial, by partial unique indexes. A
release's moves carry its versions 1, 2, …, each once. Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint, text

from components.events.ledger import Ledger
from components.events.schema import METADATA, text_column
from components.releases.machine import TRIAL, Kind, State


@dataclass(frozen=True)
class Release:
    """One attempt to make a deployment the champion of its line; `since` is the time of its last move."""

    release: str
    line: str
    deployment: str
    state: State
    version: int
    since: float


@dataclass(frozen=True)
class Move:
    """A move as it was recorded; the first of a release has no source. `token` is that of its lease."""

    release: str
    version: int
    source: State | None
    target: State
    kind: Kind
    time: float
    who: str
    why: str
    evidence: Mapping[str, Any]
    token: int


@dataclass(frozen=True)
class Lease:
    """The right to move a line's releases. The token decides; the expiry says when another may take over."""

    line: str
    holder: str
    token: int
    expires: float


def _only_one(name: str, states: tuple[State, ...]) -> Index:
    where = text(f"state IN ({', '.join(repr(str(state)) for state in states)})")
    return Index(name, "line", unique=True, sqlite_where=where, postgresql_where=where)


RELEASES = Table(
    "releases",
    METADATA,
    Column("release", String(250), primary_key=True),
    *(text_column(name) for name in ("line", "state")),
    Column("deployment", ForeignKey("deployments.deployment"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("since", Float(53), nullable=False),
    _only_one("one_champion", (State.CHAMPION,)),
    _only_one("one_on_trial", TRIAL),
)
MOVES = Table(
    "moves",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("release", ForeignKey("releases.release"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("source", Text),
    *(text_column(name) for name in ("target", "kind", "who", "why")),
    Column("time", Float(53), nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("token", Integer, nullable=False),
    UniqueConstraint("release", "version", name="each_version_once"),
)
LEDGER = Ledger(MOVES.c.version, MOVES.c.release, "atelier release history LINE")
LEASES = Table(
    "leases",
    METADATA,
    Column("line", String(50), primary_key=True),
    text_column("holder"),
    Column("token", Integer, nullable=False),
    Column("expires", Float(53), nullable=False),
)
