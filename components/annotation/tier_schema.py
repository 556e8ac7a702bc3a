"""Labelling tasks, their answers and their moves: frozen rows, and the tables of the project's database that hold them.

Nothing is ever deleted: an answer that no longer counts carries when and why it ended. The database itself refuses a
second current answer of a person on a task (so nobody can review their own work), and the same edit of an annotation
twice. Times are epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint, text

from components.annotation.tiers import Answer, Kind, State, Tier
from components.events.schema import METADATA


@dataclass(frozen=True)
class Task:
    """A sample to label. `gold`: its known label, empty for ordinary tasks, which alone end with a `label`.

    `version` counts every change of the task or its answers, `since` is the time of the last.
    """

    task: int
    project: str
    sample: str
    gold: str
    state: State
    label: str
    version: int
    since: float


@dataclass(frozen=True)
class Record:
    """An answer as it is kept; `source`, `stamp`: the annotation elsewhere and its last edit there, if any."""

    number: int
    task: int
    tier: Tier
    person: str
    label: str
    why: str
    time: float
    source: str | None
    stamp: str | None
    ended: float | None
    ended_why: str

    @property
    def answer(self) -> Answer:
        return Answer(self.person, self.tier, self.label, self.why)


@dataclass(frozen=True)
class Move:
    """A transition: who caused it, when, and why. The first of a task has no source."""

    task: int
    version: int
    source: State | None
    target: State
    kind: Kind
    label: str
    time: float
    who: str
    why: str


PROJECTS = Table(
    "tier_projects",
    METADATA,
    Column("project", String(100), primary_key=True),
    Column("token", Integer, nullable=False),
    Column("read_until", Text, nullable=False, default=""),
    Column("chosen_at", Integer, nullable=False, default=-1),
    Column("outlook", Text, nullable=False, default=""),
)
TASKS = Table(
    "tier_tasks",
    METADATA,
    Column("task", Integer, primary_key=True, autoincrement=True),
    Column("project", String(100), ForeignKey("tier_projects.project"), nullable=False),
    Column("sample", String(200), nullable=False),
    *(Column(name, Text, nullable=False) for name in ("gold", "state", "label")),
    Column("version", Integer, nullable=False),
    Column("since", Float(53), nullable=False),
    UniqueConstraint("project", "sample", name="each_sample_once"),
)
ANSWERS = Table(
    "tier_answers",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("task", ForeignKey("tier_tasks.task"), nullable=False, index=True),
    Column("tier", Text, nullable=False),
    Column("person", String(200), nullable=False),
    *(Column(name, Text, nullable=False) for name in ("label", "why")),
    Column("time", Float(53), nullable=False),
    Column("source", String(100)),
    Column("stamp", String(100)),
    Column("ended", Float(53)),
    Column("ended_why", Text, nullable=False),
    UniqueConstraint("source", "stamp", name="each_edit_once"),
    Index(
        "one_answer_each",
        "task",
        "person",
        unique=True,
        sqlite_where=text("ended IS NULL"),
        postgresql_where=text("ended IS NULL"),
    ),
)
MOVES = Table(
    "tier_moves",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("task", ForeignKey("tier_tasks.task"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("source", Text),
    *(Column(name, Text, nullable=False) for name in ("target", "kind", "label")),
    Column("time", Float(53), nullable=False),
    *(Column(name, Text, nullable=False) for name in ("who", "why")),
    UniqueConstraint("task", "version", name="each_task_version_once"),
)
SHOWN = Table(
    "tier_shown",
    METADATA,
    Column("task", ForeignKey("tier_tasks.task"), primary_key=True, autoincrement=False),
    Column("remote", Integer, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("tier", "note")),
)
