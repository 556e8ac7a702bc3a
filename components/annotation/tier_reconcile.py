"""Annotations elsewhere (Label Studio) become answers here: new, edited and deleted ones, each once.

Polling is the truth. A task is brought up to date in one transaction, with some others, so that a reconcile that is
killed is carried on by the next. Of two at once the one that began later goes on, as it read the newer annotations; the
other stops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine

from components.annotation import label_studio, tier_store
from components.annotation.label_studio import Polled
from components.annotation.tier_schema import ANSWERS, Record, Task
from components.annotation.tiers import ORDER, Answer, Kind, State, Tier, TierError, check_allowed, next_step
from components.annotation.trust import Crowd
from components.config import Tiers
from components.events.database import writing

SERVER = "label-studio"  # who deleted an annotation it does not say
AT_ONCE = 100  # tasks in a transaction: others wait for less than a second, and a commit costs little


@dataclass
class Summary:
    """What a reconcile found: counts, and a sentence for each annotation that does not count."""

    new: int = 0
    edited: int = 0
    deleted: int = 0
    changed_tasks: int = 0
    refused: list[str] = field(default_factory=list)


def reconcile(
    engine: Engine,
    project: str,
    poll: Callable[[str], label_studio.Reading],
    labels: Sequence[str],
    tiers: Tiers,
) -> Summary:
    """Bring the tasks up to date with what `poll` reads, which is told up to when they have been read before.

    Raises `OvertakenError` where a later one has begun.
    """
    token, since = tier_store.begin(engine, project)
    reading = poll(since)
    elsewhere: dict[str, list[Polled]] = {}
    for polled in reading.tasks:
        elsewhere.setdefault(polled.sample_id, []).append(polled)
    crowd = tier_store.crowd_of(engine, project, labels, tiers)
    recorded = tier_store.records(engine, project)
    found = Summary()
    known = tier_store.tasks(engine, project)
    due = [t for t in known if _due(t, recorded.get(t.task, []), elsewhere.get(t.sample, []), crowd, tiers)]
    for start in range(0, len(due), AT_ONCE):
        with writing(engine, f"annotations of {project}") as connection:
            tier_store.fence(connection, project, token)
            for task in due[start : start + AT_ONCE]:
                now = tier_store.lock(connection, task.task)
                _bring_up_to_date(connection, now, elsewhere.get(task.sample, []), crowd, tiers, found)
    answered = {polled.sample_id for polled in reading.tasks if polled.answers}
    strange = answered - {task.sample for task in known}
    found.refused += [f"sample {sample or '(none)'}: the project has no such task" for sample in sorted(strange)]
    tier_store.read_on(engine, project, token, reading.until)
    return found


def _due(task: Task, records: Sequence[Record], given: Sequence[Polled], crowd: Crowd, tiers: Tiers) -> bool:
    """Whether there is anything to do; also where the people's accuracies, known better now, settle a task."""
    seen = {(record.source, record.stamp) for record in records}
    current = [record for record in records if record.ended is None]
    return (
        any((_source(annotation), annotation.time) not in seen for polled in given for annotation in polled.answers)
        or bool(_gone(current, given))
        or bool(
            not task.gold
            and task.state is State.ANNOTATE
            and next_step(task.state, [record.answer for record in current], 0, crowd.believe, tiers)
        )
    )


def _bring_up_to_date(
    connection: Connection,
    task: Task,
    given: Sequence[Polled],
    crowd: Crowd,
    tiers: Tiers,
    found: Summary,
) -> None:
    now, before = time.time(), task.version
    records = tier_store.find_records(connection, ANSWERS.c.task == task.task)
    if deleted := tier_store.end(connection, _gone(records, given), now, "deleted"):
        found.deleted += len(deleted)
        task = _reopen(connection, task, deleted, SERVER, "deleted", now)
    task = tier_store.settle(connection, task, SERVER, crowd, tiers, now)
    seen = {(record.source, record.stamp) for record in records}
    for annotation in sorted((one for polled in given for one in polled.answers), key=_order):
        if (_source(annotation), annotation.time) not in seen:
            task = _take(connection, task, annotation, crowd, tiers, found, now)
    found.changed_tasks += task.version != before


def _take(
    connection: Connection,
    task: Task,
    annotation: label_studio.Answer,
    crowd: Crowd,
    tiers: Tiers,
    found: Summary,
    now: float,
) -> Task:
    """One annotation that is new, or new in this form; where it cannot count, the form before it does not either."""
    person, records = str(annotation.annotator), tier_store.find_records(connection, ANSWERS.c.task == task.task)
    mine = [record for record in records if record.person == person and record.ended is None]
    if edited := [record for record in mine if record.source == _source(annotation)]:
        found.edited += 1
    if replaced := tier_store.end(connection, mine, now, "edited" if edited else "replaced by a newer annotation"):
        task = _reopen(connection, task, replaced, person, "edited", now)
    tier = replaced[0].tier if replaced else _tier(task, person, tiers)
    answer = Answer(person, tier, annotation.category, annotation.why)
    try:
        check_allowed(answer, [record.answer for record in records], crowd.labels)
    except TierError as error:
        found.refused.append(f"sample {task.sample}, annotation {annotation.annotation} of {person}: {error}")
    else:
        found.new += not replaced
        tier_store.put(connection, task, answer, now, _source(annotation), annotation.time)
        task = tier_store.touch(connection, task, now)
    return tier_store.settle(connection, task, person, crowd, tiers, now)


def _tier(task: Task, person: str, tiers: Tiers) -> Tier:
    """A verdict where the task waits for one that the person may give; else one more annotation, which always helps."""
    highest = tier_store.role(person, tiers)
    return highest if task.state.value == highest.value and not task.gold else Tier.ANNOTATE


def _reopen(connection: Connection, task: Task, ended: Sequence[Record], who: str, what: str, now: float) -> Task:
    """Back to the lowest tier that lost an answer; the verdicts above it rested on that one and are set aside."""
    lowest = min((State(record.tier) for record in ended), key=ORDER.index)
    task = tier_store.touch(connection, task, now)
    if task.gold or ORDER.index(lowest) >= ORDER.index(task.state):
        return task
    above = [
        record
        for record in tier_store.find_records(connection, ANSWERS.c.task == task.task)
        if ORDER.index(State(record.tier)) > ORDER.index(lowest)
    ]
    why = f"the answer of {', '.join(record.person for record in ended)} was {what}"
    tier_store.end(connection, above, now, f"set aside: {why}")
    return tier_store.change(connection, task, lowest, Kind.REOPEN, "", who, why, now)


def _gone(records: Sequence[Record], given: Sequence[Polled]) -> list[Record]:
    """Answers that were deleted: their task is there and they are not. With a whole task nobody takes answers back."""
    tasks = {polled.task for polled in given}
    present = {_source(annotation) for polled in given for annotation in polled.answers}
    return [r for r in records if r.source and r.source not in present and r.source.split(":")[1] in tasks]


def _source(annotation: label_studio.Answer) -> str:
    return f"{SERVER}:{annotation.task}:{annotation.annotation}"


def _order(annotation: label_studio.Answer) -> tuple[datetime, int]:
    return datetime.fromisoformat(annotation.time), annotation.annotation
