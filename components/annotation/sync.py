"""Labelling tasks between the project's database and Label Studio: tasks go there, annotations come back.

There a task stands in the tab of the tier that it waits for. What the server shows is kept in the database, and written
there, for some tasks at a time, after the server has taken it: a kill in between means that it is found there, or sent
once more, which changes nothing.

Annotations become answers here: new, edited and deleted ones, each once. They are polled; nothing that the server might
send is needed. A task is brought up to date in one transaction, with some others, so that a reconcile that is killed is
carried on by the next. Of two at once the one that began later goes on, as it read the newer annotations; the other
stops.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine, bindparam, delete, select, update

from components.annotation import task_store
from components.annotation.crowd import Crowd
from components.annotation.label_studio import NewTask, Project, RemoteAnnotation, RemoteTask, TaskUpdate, TaskView
from components.annotation.task_store import ANSWERS, PROJECTS, SHOWN, TASKS, RecordedAnswer, Task
from components.annotation.template import CHANGE, wording
from components.annotation.workflow import (
    ENDED,
    ORDER,
    Answer,
    MoveKind,
    State,
    Tier,
    TierError,
    check_allowed,
    highest_tier,
    next_step,
)
from components.config import Tiers
from components.events.database import insert_new, writing
from components.events.ledger import OvertakenError

SERVER = "label-studio"  # recorded as who deleted an annotation: the server does not say
MOVED_AT_ONCE = 250
AT_ONCE = 100  # tasks in a transaction: others wait for less than a second, and a commit costs little


def send(engine: Engine, project: Project, payloads: Callable[[Sequence[Task]], Iterable[NewTask]]) -> int:
    """Create the open tasks that the server does not have, with their `payloads`; returns how many.

    A task whose sample is gone has no payload and is not sent.
    """
    views, sent = read_views(engine, project.title), 0
    missing = [t for t in task_store.read_tasks(engine, project.title) if t.task not in views and t.state not in ENDED]
    task_of = {task.sample: task.task for task in missing}
    for numbers in project.upload(payloads(missing)) if missing else ():
        with writing(engine, f"tasks of {project.title}") as connection:
            _insert_views(connection, {task_of[sample]: number for sample, number in numbers.items()})
        sent += len(numbers)
    return sent


def catch_up(engine: Engine, project: Project) -> None:
    """Record tasks that the server has or lost without a record here: by a run that was killed, or by hand.

    Lost tasks that are open are sent again. Their answers stay: whoever deletes a task takes no answer back.
    """
    views = read_views(engine, project.title)
    if project.size() == len(views):
        return
    numbers = project.task_numbers()
    tasks = {task.task: numbers.get(task.sample) for task in task_store.read_tasks(engine, project.title)}
    gone = {task for task, (number, _) in views.items() if tasks[task] != number}
    new = {task: number for task, number in tasks.items() if number and (task not in views or task in gone)}
    with writing(engine, f"tasks of {project.title}") as connection:
        if gone:
            each = delete(SHOWN).where(SHOWN.c.task == bindparam("gone"))
            connection.execute(each, [{"gone": task} for task in gone])
        _insert_views(connection, new)


def update_views(engine: Engine, project: Project, labels: Sequence[str], tiers: Tiers) -> int:
    """Show every task in the tab of its tier, with what was said of it so far; returns how many have moved."""
    views, answers = read_views(engine, project.title), task_store.read_answers(engine, project.title)
    crowd = task_store.read_crowd(engine, project.title, labels, tiers)
    due: list[tuple[Task, TaskUpdate]] = []
    for task in task_store.read_tasks(engine, project.title):
        number, view = views.get(task.task, (0, None))
        given = answers.get(task.task, [])
        if view and view != (wanted := view_of(task, given)):
            due.append((task, _update_of(number, wanted, given, crowd)))
    # Those that show the same are changed by one request.
    due.sort(key=lambda pair: (pair[1].view.tier, pair[1].view.note, pair[0].task))
    for start in range(0, len(due), MOVED_AT_ONCE):
        part = due[start : start + MOVED_AT_ONCE]
        project.update_tasks([change for _, change in part])
        with writing(engine, f"tabs of {project.title}") as connection:
            each = update(SHOWN).where(SHOWN.c.task == bindparam("moved"))
            connection.execute(each, [{"moved": task.task, **vars(change.view)} for task, change in part])
    return len(due)


def read_views(engine: Engine, project: str) -> dict[int, tuple[int, TaskView]]:
    """The number on the server of every task that was sent, and what it shows there."""
    query = select(SHOWN).join(TASKS, TASKS.c.task == SHOWN.c.task).where(TASKS.c.project == project)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings()
        return {row["task"]: (row["remote"], TaskView(row["tier"], row["note"])) for row in rows}


def view_of(task: Task, given: Sequence[RecordedAnswer]) -> TaskView:
    """What the next tier should see; annotators see nobody's answer, only why a task came back."""
    if task.state in ENDED:
        return TaskView(State.DONE)
    if task.state is State.ANNOTATE:
        rejections = [answer.why for answer in given if answer.tier is Tier.REVIEW and not answer.label]
        return TaskView(task.state, f"a reviewer sent it back: {rejections[-1]}" if rejections else "")
    current = [answer for answer in given if answer.ended is None]
    counts = Counter(answer.label for answer in current if answer.tier is Tier.ANNOTATE)
    notes = [f"{label}: {count}" for label, count in counts.most_common()]
    notes += [f"{a.person} says: {a.why}" for a in current if a.tier is Tier.ANNOTATE and a.why]
    notes += [f"the reviewer: {a.label or 'reject'} {a.why}".strip() for a in current if a.tier is Tier.REVIEW]
    return TaskView(task.state, "; ".join(notes))


def _update_of(number: int, view: TaskView, given: Sequence[RecordedAnswer], crowd: Crowd) -> TaskUpdate:
    """What a task is to show; to reviewers and arbiters, the likeliest of the answers so far as the proposal too."""
    if view.tier not in (State.REVIEW, State.ARBITRATE):
        return TaskUpdate(number, view)
    current = [answer.answer for answer in given if answer.ended is None and answer.label]
    category, sure = crowd.aggregate(current)
    return TaskUpdate(number, view, category, wording(current) if category == CHANGE else "", round(sure, 3))


def _insert_views(connection: Connection, numbers: Mapping[int, int]) -> None:
    """Record that the server has these tasks under these numbers, as they were sent."""
    sent = vars(TaskView(State.ANNOTATE))
    if numbers:
        rows = [{"task": task, "remote": number, **sent} for task, number in numbers.items()]
        connection.execute(insert_new(connection.engine, SHOWN), rows)


@dataclass
class Summary:
    """Counts of a reconcile, and a sentence for each annotation that does not count."""

    new: int = 0
    edited: int = 0
    deleted: int = 0
    refused: list[str] = field(default_factory=list)


def reconcile(
    engine: Engine,
    project: str,
    changed_since: Callable[[str], tuple[Sequence[RemoteTask], str]],
    labels: Sequence[str],
    tiers: Tiers,
) -> Summary:
    """Bring the tasks up to date with the annotations that changed since the last reconcile.

    `changed_since` is a `Project`'s. Raises `OvertakenError` where a later reconcile has begun.
    """
    token, since = begin_reconcile(engine, project)
    changed, until = changed_since(since)
    remote: dict[str, list[RemoteTask]] = {}
    for there in changed:
        remote.setdefault(there.sample_id, []).append(there)
    crowd = task_store.read_crowd(engine, project, labels, tiers)
    answers = task_store.read_answers(engine, project)
    summary = Summary()
    tasks = task_store.read_tasks(engine, project)
    due = [t for t in tasks if _due(t, answers.get(t.task, []), remote.get(t.sample, []), crowd, tiers)]
    for start in range(0, len(due), AT_ONCE):
        with writing(engine, f"annotations of {project}") as connection:
            _require_newest(connection, project, token)
            for task in due[start : start + AT_ONCE]:
                locked = task_store.lock_task(connection, task.task)
                _bring_up_to_date(connection, locked, remote.get(task.sample, []), crowd, tiers, summary)
    strange = {there.sample_id for there in changed if there.annotations} - {task.sample for task in tasks}
    summary.refused += [f"sample {sample or '(none)'}: the project has no such task" for sample in sorted(strange)]
    with writing(engine, f"reconcile of {project}") as connection:
        _require_newest(connection, project, token)
        connection.execute(update(PROJECTS).where(PROJECTS.c.project == project).values(read_until=until))
    return summary


def begin_reconcile(engine: Engine, project: str) -> tuple[int, str]:
    """The number of a reconcile that begins now, and up to when annotations were read before it.

    From here on those with lower numbers change nothing any more.
    """
    with writing(engine, f"reconcile of {project}") as connection:
        token = task_store.lock_project(connection, project) + 1
        mine = PROJECTS.c.project == project
        connection.execute(update(PROJECTS).where(mine).values(token=token))
        return token, str(connection.scalar(select(PROJECTS.c.read_until).where(mine)))


def _require_newest(connection: Connection, project: str, token: int) -> None:
    """Raises `OvertakenError` where a newer reconcile of the project has begun; none begins until it ends."""
    newest = task_store.lock_project(connection, project)
    if newest != token:
        raise OvertakenError(
            f"reconcile {token} of {project} read the annotations before reconcile {newest} did; that one goes on"
        )


def _due(
    task: Task, answers: Sequence[RecordedAnswer], remote: Sequence[RemoteTask], crowd: Crowd, tiers: Tiers
) -> bool:
    """Whether there is anything to do; also where the people's accuracies, better known by now, settle a task."""
    taken = {(answer.source, answer.stamp) for answer in answers}
    current = [answer for answer in answers if answer.ended is None]
    return (
        any((_source(a), a.time) not in taken for a in _annotations(remote))
        or bool(_deleted(current, remote))
        or bool(
            not task.gold
            and task.state is State.ANNOTATE
            and next_step(task.state, [answer.answer for answer in current], 0, crowd.aggregate, tiers)
        )
    )


def _bring_up_to_date(
    connection: Connection,
    task: Task,
    remote: Sequence[RemoteTask],
    crowd: Crowd,
    tiers: Tiers,
    summary: Summary,
) -> None:
    now = time.time()
    answers = task_store.select_answers(connection, ANSWERS.c.task == task.task)
    if deleted := task_store.end_answers(connection, _deleted(answers, remote), now, "deleted"):
        summary.deleted += len(deleted)
        task = _reopen(connection, task, deleted, SERVER, "deleted", now)
    task = task_store.settle_task(connection, task, SERVER, crowd, tiers, now)
    taken = {(answer.source, answer.stamp) for answer in answers}
    for annotation in sorted(_annotations(remote), key=lambda a: (datetime.fromisoformat(a.time), a.annotation)):
        if (_source(annotation), annotation.time) not in taken:
            task = _take(connection, task, annotation, crowd, tiers, summary, now)


def _take(
    connection: Connection,
    task: Task,
    annotation: RemoteAnnotation,
    crowd: Crowd,
    tiers: Tiers,
    summary: Summary,
    now: float,
) -> Task:
    """Record a new or edited annotation; where its edited form cannot count, the form before it does not either."""
    person, answers = str(annotation.annotator), task_store.select_answers(connection, ANSWERS.c.task == task.task)
    mine = [answer for answer in answers if answer.person == person and answer.ended is None]
    if edited := any(answer.source == _source(annotation) for answer in mine):
        summary.edited += 1
    reason = "edited" if edited else "replaced by a newer annotation"
    if replaced := task_store.end_answers(connection, mine, now, reason):
        task = _reopen(connection, task, replaced, person, "edited", now)
    tier = replaced[0].tier if replaced else _tier(task, person, tiers)
    answer = Answer(person, tier, annotation.category, annotation.why)
    try:
        check_allowed(answer, [earlier.answer for earlier in answers], crowd.labels)
    except TierError as error:
        summary.refused.append(f"sample {task.sample}, annotation {annotation.annotation} of {person}: {error}")
    else:
        summary.new += not replaced
        task_store.insert_answer(connection, task, answer, now, _source(annotation), annotation.time)
        task = task_store.update_task(connection, task, now)
    return task_store.settle_task(connection, task, person, crowd, tiers, now)


def _tier(task: Task, person: str, tiers: Tiers) -> Tier:
    """The tier of a verdict that the task waits for; else the answer is one more annotation, which always helps."""
    highest = highest_tier(person, tiers)
    return highest if task.state.value == highest.value and not task.gold else Tier.ANNOTATE


def _reopen(
    connection: Connection, task: Task, ended: Sequence[RecordedAnswer], who: str, what: str, now: float
) -> Task:
    """Send a task back to the lowest tier that lost an answer, and set aside the verdicts above, which rested on it."""
    lowest = min((State(answer.tier) for answer in ended), key=ORDER.index)
    task = task_store.update_task(connection, task, now)
    if task.gold or ORDER.index(lowest) >= ORDER.index(task.state):
        return task
    above = [
        answer
        for answer in task_store.select_answers(connection, ANSWERS.c.task == task.task)
        if ORDER.index(State(answer.tier)) > ORDER.index(lowest)
    ]
    why = f"the answer of {', '.join(answer.person for answer in ended)} was {what}"
    task_store.end_answers(connection, above, now, f"set aside: {why}")
    return task_store.move_task(connection, task, lowest, MoveKind.REOPEN, "", who, why, now)


def _deleted(answers: Sequence[RecordedAnswer], remote: Sequence[RemoteTask]) -> list[RecordedAnswer]:
    """Answers whose annotation is gone from a task that is there: deleting a whole task takes no answer back."""
    tasks = {task.task for task in remote}
    present = {_source(annotation) for annotation in _annotations(remote)}
    return [a for a in answers if a.source and a.source not in present and a.source.split(":")[1] in tasks]


def _annotations(remote: Iterable[RemoteTask]) -> list[RemoteAnnotation]:
    return [annotation for task in remote for annotation in task.annotations]


def _source(annotation: RemoteAnnotation) -> str:
    return f"{SERVER}:{annotation.task}:{annotation.annotation}"
