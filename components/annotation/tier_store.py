"""The one place that changes labelling tasks: each call one transaction on one task, recorded with who, when and why.

Whoever comes second to a task waits for the first and then reads what that one made of it. A call that raises
(`TierError`, or `DatabaseError` where the database is away) has changed nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, select, update

from components.annotation.tier_schema import ANSWERS, MOVES, PROJECTS, TASKS, Move, Record, Task
from components.annotation.tiers import (
    Answer,
    Kind,
    OvertakenError,
    State,
    Tier,
    TierError,
    check_allowed,
    next_step,
)
from components.annotation.trust import Crowd, get_to_know
from components.config import Tiers
from components.events.database import insert_new, writing
from components.events.schema import storable


def add(engine: Engine, project: str, samples: Mapping[str, str], who: str) -> int:
    """Add the samples that the project has no task for, with the known label of those that are gold (else empty)."""
    with writing(engine, f"tasks of {project}") as connection:
        connection.execute(insert_new(engine, PROJECTS).values(project=project, token=0))
        _lock_project(connection, project)  # of two that add the same samples, the second sees the first's
        known = set(connection.scalars(select(TASKS.c.sample).where(TASKS.c.project == project)))
        missing = {sample: gold for sample, gold in samples.items() if sample not in known}
        now = time.time()
        for sample, gold in missing.items():
            new = {"project": project, "sample": sample, "gold": gold, "state": State.ANNOTATE, "label": ""}
            made = connection.execute(insert(TASKS).values(new | {"version": 1, "since": now}))
            task = made.inserted_primary_key[0]  # type: ignore[index]
            _record(connection, Move(task, 1, None, State.ANNOTATE, Kind.CREATE, "", now, who, "a sample to label"))
        return len(missing)


def tasks(engine: Engine, project: str) -> list[Task]:
    """All tasks of a project, gold too, in the order in which they were added."""
    with engine.connect() as connection:
        return _find(connection, TASKS.c.project == project)


def records(engine: Engine, project: str) -> dict[int, list[Record]]:
    """Every answer by task, also those that have ended, in the order in which they were recorded."""
    of_project = ANSWERS.c.task.in_(select(TASKS.c.task).where(TASKS.c.project == project))
    found: dict[int, list[Record]] = {}
    with engine.connect() as connection:
        for record in find_records(connection, of_project):
            found.setdefault(record.task, []).append(record)
    return found


def history(engine: Engine, project: str) -> list[Move]:
    """All moves of a project's tasks, oldest first."""
    query = select(MOVES).join(TASKS, TASKS.c.task == MOVES.c.task).where(TASKS.c.project == project)
    with engine.connect() as connection:
        return [_move(row) for row in connection.execute(query.order_by(MOVES.c.id)).mappings()]


def crowd_of(engine: Engine, project: str, labels: Sequence[str], tiers: Tiers) -> Crowd:
    """What all current answers of a project say of the people who gave them."""
    gold = {task.task: task.gold for task in tasks(engine, project) if task.gold}
    return get_to_know(current_answers(records(engine, project)), gold, labels, tiers)


def current_answers(recorded: Mapping[int, Sequence[Record]]) -> dict[int, list[Answer]]:
    """The answers that count, by task."""
    found = {task: [r.answer for r in given if r.ended is None] for task, given in recorded.items()}
    return {task: given for task, given in found.items() if given}


def submit(engine: Engine, seen: Task, answer: Answer, crowd: Crowd, tiers: Tiers) -> Task:
    """Record an answer to a task as it was seen; returns the task after what the answer made of it.

    A verdict counts for what its giver saw: raises `OvertakenError` where the task has changed. An annotation stands on
    its own. The same person's earlier answer in the tier is replaced.
    """
    with writing(engine, f"answer of {answer.person} to {seen.sample}") as connection:
        task, now = lock(connection, seen.task), time.time()
        if answer.tier is not Tier.ANNOTATE and task.version != seen.version:
            raise _overtaken(task, seen.version)
        if task.state.value != answer.tier.value:
            raise TierError(f"task {task.sample} is at {task.state} and takes nobody's answer to {answer.tier}")
        check_role(answer, tiers)
        earlier = find_records(connection, ANSWERS.c.task == task.task)
        check_allowed(answer, [r.answer for r in earlier], crowd.labels)
        end(connection, [r for r in earlier if r.person == answer.person], now, "replaced by a newer answer")
        put(connection, task, answer, now)
        return settle(connection, touch(connection, task, now), answer.person, crowd, tiers, now)


def settle_gold(engine: Engine, seen: Task, label: str, who: str, why: str) -> Task:
    """A lead's word on a gold label: another one, or none, which makes the task an ordinary one."""
    with writing(engine, f"gold label of {seen.sample}") as connection:
        task = lock(connection, seen.task)
        if task.version != seen.version:
            raise _overtaken(task, seen.version)
        words = f"gold {task.gold or '(none)'} → {label or '(none)'}: {why}"
        return change(connection, replace(task, gold=label), State.ANNOTATE, Kind.REOPEN, "", who, words, time.time())


def role(person: str, tiers: Tiers) -> Tier:
    """The highest tier that a person answers in."""
    if person in tiers.arbiters:
        return Tier.ARBITRATE
    return Tier.REVIEW if person in tiers.reviewers else Tier.ANNOTATE


def check_role(answer: Answer, tiers: Tiers) -> None:
    """Refuse a verdict of somebody who is not listed for its tier."""
    named = {Tier.REVIEW: tiers.reviewers, Tier.ARBITRATE: tiers.arbiters}.get(answer.tier)
    if named is not None and answer.person not in named:
        raise TierError(
            f"{answer.person} is not among those who {answer.tier}; they are listed in annotation.tiers of params.yaml"
        )


def begin(engine: Engine, project: str) -> tuple[int, str]:
    """The number of a reconcile that begins now, and up to when annotations were read before it.

    From here on those with lower numbers change nothing any more.
    """
    with writing(engine, f"reconcile of {project}") as connection:
        token = _lock_project(connection, project) + 1
        mine = PROJECTS.c.project == project
        connection.execute(update(PROJECTS).where(mine).values(token=token))
        return token, str(connection.scalar(select(PROJECTS.c.read_until).where(mine)))


def read_on(engine: Engine, project: str, token: int, until: str) -> None:
    """A reconcile has ended: the next one reads from there."""
    with writing(engine, f"reconcile of {project}") as connection:
        fence(connection, project, token)
        connection.execute(update(PROJECTS).where(PROJECTS.c.project == project).values(read_until=until))


def fence(connection: Connection, project: str, token: int) -> None:
    """Raises `OvertakenError` where a newer reconcile of the project has begun; none begins until it ends."""
    newest = _lock_project(connection, project)
    if newest != token:
        raise OvertakenError(
            f"reconcile {token} of {project} read the annotations before reconcile {newest} did; that one goes on"
        )


def lock(connection: Connection, task: int) -> Task:
    """The task as it is, held until the transaction ends."""
    found = _find(connection, TASKS.c.task == task, lock=True)
    if not found:
        raise TierError(f"no task {task}; it is a task's number in the project's database")
    return found[0]


def find_records(connection: Connection, condition: ColumnElement[bool]) -> list[Record]:
    """Answers in the order in which they were recorded, also those that have ended."""
    rows = connection.execute(select(ANSWERS).where(condition).order_by(ANSWERS.c.number)).mappings()
    return [Record(**{**row, "tier": Tier(row["tier"])}) for row in rows]


def put(
    connection: Connection, task: Task, answer: Answer, now: float, source: str | None = None, stamp: str | None = None
) -> None:
    """Write an answer down; an annotation elsewhere is named by `source`, its edit by `stamp`."""
    values = {"task": task.task, "tier": answer.tier, "person": answer.person, "label": answer.label}
    known = {"why": storable(answer.why), "time": now, "source": source, "stamp": stamp, "ended_why": ""}
    connection.execute(insert(ANSWERS).values(values | known))


def end(connection: Connection, given: Sequence[Record], now: float, why: str) -> list[Record]:
    """Let answers count no longer; returns those that did until now."""
    current = [record for record in given if record.ended is None]
    numbers = [record.number for record in current]
    connection.execute(update(ANSWERS).where(ANSWERS.c.number.in_(numbers)).values(ended=now, ended_why=storable(why)))
    return current


def settle(connection: Connection, task: Task, who: str, crowd: Crowd, tiers: Tiers, now: float) -> Task:
    """Make the moves that a task's current answers are due; gold tasks stay where they are."""
    while not task.gold:
        current = [r for r in find_records(connection, ANSWERS.c.task == task.task) if r.ended is None]
        step = next_step(task.state, [r.answer for r in current], _rejections(connection, task), crowd.believe, tiers)
        if step is None:
            break
        if step.kind is Kind.REJECT:
            end(connection, current, now, f"rejected by {who}: {step.why}")
        task = change(connection, task, step.target, step.kind, step.label, who, step.why, now)
    return task


def change(
    connection: Connection, found: Task, to: State, kind: Kind, label: str, who: str, why: str, now: float
) -> Task:
    """Move a task that is locked, and record it."""
    changed = _write(connection, replace(found, state=to, label=label), now)
    move = Move(found.task, changed.version, found.state, to, kind, label, now, storable(who), storable(why))
    _record(connection, move)
    return changed


def touch(connection: Connection, found: Task, now: float) -> Task:
    """Count a change of a task's answers, so that who judged the old ones is told."""
    return _write(connection, found, now)


def _write(connection: Connection, task: Task, now: float) -> Task:
    changed = replace(task, version=task.version + 1, since=now)
    same = (TASKS.c.task == task.task) & (TASKS.c.version == task.version)
    if connection.execute(update(TASKS).where(same).values(vars(changed))).rowcount != 1:
        raise _overtaken(task, task.version)
    return changed


def _lock_project(connection: Connection, project: str) -> int:
    token = connection.scalar(select(PROJECTS.c.token).where(PROJECTS.c.project == project).with_for_update())
    if token is None:
        raise TierError(f"no project {project!r} has labelling tasks; add some first")
    return int(token)


def _find(connection: Connection, condition: ColumnElement[bool], *, lock: bool = False) -> list[Task]:
    query = select(TASKS).where(condition).order_by(TASKS.c.task)
    rows = connection.execute(query.with_for_update() if lock else query).mappings()
    return [Task(**{**row, "state": State(row["state"])}) for row in rows]


def _rejections(connection: Connection, task: Task) -> int:
    rejected = (MOVES.c.task == task.task) & (MOVES.c.kind == Kind.REJECT)
    return connection.scalar(select(func.count()).select_from(MOVES).where(rejected)) or 0


def _record(connection: Connection, move: Move) -> None:
    connection.execute(insert(MOVES).values(vars(move)))


def _move(row: Any) -> Move:
    fields = {name: value for name, value in row.items() if name != "id"}
    source = State(row["source"]) if row["source"] else None
    return Move(**fields | {"source": source, "target": State(row["target"]), "kind": Kind(row["kind"])})


def _overtaken(task: Task, seen: int) -> OvertakenError:
    return OvertakenError(
        f"task {task.sample} is not at version {seen}, but at {task.version} ({task.state}): somebody changed it "
        "first; look at it again and decide anew"
    )
