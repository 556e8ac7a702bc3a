"""Labelling tasks in the project's database: their rows, and the one place that changes them.

Every change is recorded with who, when and why. Nothing is ever deleted: an answer that no
longer counts carries when and why it ended. The database itself refuses a second current answer of a person on a task
(so nobody can review their own work), and the same edit of an annotation twice. Whoever comes second to a task waits
for the first and then reads what that one made of it. A transaction that fails has changed nothing. Times are epoch
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    text,
    update,
)

from components.annotation.crowd import Crowd, estimate_crowd
from components.annotation.workflow import (
    Answer,
    MoveKind,
    State,
    Tier,
    TierError,
    next_step,
)
from components.config import Tiers
from components.events.database import insert_new, writing
from components.events.ledger import OvertakenError
from components.events.schema import METADATA, storable


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
class RecordedAnswer:
    """A stored answer; `source`, `stamp`: the annotation in Label Studio and its last edit there, if any."""

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
    kind: MoveKind
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


def add_tasks(engine: Engine, project: str, samples: Mapping[str, str], who: str) -> int:
    """Add the samples that the project has no task for, with the known label of those that are gold (else empty)."""
    with writing(engine, f"tasks of {project}") as connection:
        connection.execute(insert_new(engine, PROJECTS).values(project=project, token=0))
        lock_project(connection, project)  # of two that add the same samples, the second sees the first's
        present = set(connection.scalars(select(TASKS.c.sample).where(TASKS.c.project == project)))
        missing = {sample: gold for sample, gold in samples.items() if sample not in present}
        now = time.time()
        for sample, gold in missing.items():
            new = {"project": project, "sample": sample, "gold": gold, "state": State.ANNOTATE, "label": ""}
            made = connection.execute(insert(TASKS).values(new | {"version": 1, "since": now}))
            task = made.inserted_primary_key[0]  # type: ignore[index]
            move = Move(task, 1, None, State.ANNOTATE, MoveKind.CREATE, "", now, who, "a sample to label")
            connection.execute(insert(MOVES).values(vars(move)))
        return len(missing)


def read_tasks(engine: Engine, project: str) -> list[Task]:
    """All tasks of a project, gold too, in the order in which they were added."""
    with engine.connect() as connection:
        return _select_tasks(connection, TASKS.c.project == project)


def read_answers(engine: Engine, project: str) -> dict[int, list[RecordedAnswer]]:
    """Every answer by task, also those that have ended, in the order in which they were recorded."""
    of_project = ANSWERS.c.task.in_(select(TASKS.c.task).where(TASKS.c.project == project))
    answers: dict[int, list[RecordedAnswer]] = {}
    with engine.connect() as connection:
        for answer in select_answers(connection, of_project):
            answers.setdefault(answer.task, []).append(answer)
    return answers


def read_moves(engine: Engine, project: str) -> list[Move]:
    """All moves of a project's tasks, oldest first."""
    query = select(MOVES).join(TASKS, TASKS.c.task == MOVES.c.task).where(TASKS.c.project == project)
    with engine.connect() as connection:
        return [_move(row) for row in connection.execute(query.order_by(MOVES.c.id)).mappings()]


def read_project(engine: Engine, project: str) -> tuple[list[Task], dict[int, list[RecordedAnswer]], list[Move]]:
    """A project's tasks, answers and moves."""
    return read_tasks(engine, project), read_answers(engine, project), read_moves(engine, project)


def read_crowd(engine: Engine, project: str, labels: Sequence[str], tiers: Tiers) -> Crowd:
    """How accurate a project's people are, estimated from all its current answers."""
    gold = {task.task: task.gold for task in read_tasks(engine, project) if task.gold}
    return estimate_crowd(current_answers(read_answers(engine, project)), gold, labels, tiers)


def current_answers(recorded: Mapping[int, Sequence[RecordedAnswer]]) -> dict[int, list[Answer]]:
    """The answers that count, by task."""
    current = {task: [r.answer for r in given if r.ended is None] for task, given in recorded.items()}
    return {task: given for task, given in current.items() if given}


def settle_gold(engine: Engine, seen: Task, label: str, who: str, why: str) -> None:
    """Give a gold task the label that a lead decided on, or none, which makes the task an ordinary one."""
    with writing(engine, f"gold label of {seen.sample}") as connection:
        task = lock_task(connection, seen.task)
        if task.version != seen.version:
            raise OvertakenError(
                f"task {task.sample} is not at version {seen.version}, but at {task.version} ({task.state}): somebody "
                "changed it first; look at it again and decide anew"
            )
        reason = f"gold {task.gold or '(none)'} → {label or '(none)'}: {why}"
        task = replace(task, gold=label)
        move_task(connection, task, State.ANNOTATE, MoveKind.REOPEN, "", who, reason, time.time())


def lock_task(connection: Connection, task: int) -> Task:
    """The task as it is, held until the transaction ends."""
    locked = _select_tasks(connection, TASKS.c.task == task, lock=True)
    if not locked:
        raise TierError(f"no task {task}; it is a task's number in the project's database")
    return locked[0]


def select_answers(connection: Connection, condition: ColumnElement[bool]) -> list[RecordedAnswer]:
    """Answers in the order in which they were recorded, also those that have ended."""
    rows = connection.execute(select(ANSWERS).where(condition).order_by(ANSWERS.c.number)).mappings()
    return [RecordedAnswer(**{**row, "tier": Tier(row["tier"])}) for row in rows]


def insert_answer(connection: Connection, task: Task, answer: Answer, now: float, source: str, stamp: str) -> None:
    """Store an answer; `source` names the annotation in Label Studio that it comes from, `stamp` its last edit."""
    values = {"task": task.task, **vars(answer), "why": storable(answer.why), "time": now}
    connection.execute(insert(ANSWERS).values(values | {"source": source, "stamp": stamp, "ended_why": ""}))


def end_answers(connection: Connection, given: Sequence[RecordedAnswer], now: float, why: str) -> list[RecordedAnswer]:
    """End the answers that still count, and return them."""
    current = [answer for answer in given if answer.ended is None]
    numbers = [answer.number for answer in current]
    connection.execute(update(ANSWERS).where(ANSWERS.c.number.in_(numbers)).values(ended=now, ended_why=storable(why)))
    return current


def settle_task(connection: Connection, task: Task, who: str, crowd: Crowd, tiers: Tiers, now: float) -> Task:
    """Make the moves that a task's current answers make due; gold tasks stay where they are."""
    rejected = (MOVES.c.task == task.task) & (MOVES.c.kind == MoveKind.REJECT)
    while not task.gold:
        current = [r for r in select_answers(connection, ANSWERS.c.task == task.task) if r.ended is None]
        rejections = connection.scalar(select(func.count()).select_from(MOVES).where(rejected)) or 0
        step = next_step(task.state, [r.answer for r in current], rejections, crowd.aggregate, tiers)
        if step is None:
            break
        if step.kind is MoveKind.REJECT:
            end_answers(connection, current, now, f"rejected by {who}: {step.why}")
        task = move_task(connection, task, step.target, step.kind, step.label, who, step.why, now)
    return task


def move_task(
    connection: Connection, task: Task, to: State, kind: MoveKind, label: str, who: str, why: str, now: float
) -> Task:
    """Move a locked task, and record the move."""
    moved = update_task(connection, replace(task, state=to, label=label), now)
    move = Move(task.task, moved.version, task.state, to, kind, label, now, storable(who), storable(why))
    connection.execute(insert(MOVES).values(vars(move)))
    return moved


def update_task(connection: Connection, task: Task, now: float) -> Task:
    """Write a locked task as its next version, so that a decision about the version before is refused."""
    changed = replace(task, version=task.version + 1, since=now)
    connection.execute(update(TASKS).where(TASKS.c.task == task.task).values(vars(changed)))
    return changed


def lock_project(connection: Connection, project: str) -> int:
    """The number of the newest reconcile; nobody begins another, or adds tasks, until the transaction ends."""
    token = connection.scalar(select(PROJECTS.c.token).where(PROJECTS.c.project == project).with_for_update())
    if token is None:
        raise TierError(f"no project {project!r} has labelling tasks; add some first")
    return int(token)


def _select_tasks(connection: Connection, condition: ColumnElement[bool], *, lock: bool = False) -> list[Task]:
    query = select(TASKS).where(condition).order_by(TASKS.c.task)
    rows = connection.execute(query.with_for_update() if lock else query).mappings()
    return [Task(**{**row, "state": State(row["state"])}) for row in rows]


def _move(row: Any) -> Move:
    fields = {name: value for name, value in row.items() if name != "id"}
    source = State(row["source"]) if row["source"] else None
    return Move(**fields | {"source": source, "target": State(row["target"]), "kind": MoveKind(row["kind"])})
