"""Tasks here become tasks in Label Studio, and move there to the tab of the tier that they wait for.

What the server shows is kept in the database, and written there, for some tasks at a time, after the server has taken
it: a kill in between means that it is found there, or sent once more, which changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import Connection, Engine, bindparam, delete, select, update

from components.annotation import label_studio, tier_store
from components.annotation.label_studio import Project
from components.annotation.label_studio_show import Shown, Turn
from components.annotation.template import CHANGE, wording
from components.annotation.tier_schema import PROJECTS, SHOWN, TASKS, Record, Task
from components.annotation.tiers import State, Tier
from components.annotation.trust import Crowd
from components.config import Tiers
from components.events.database import insert_new, writing

ENDED = (State.DONE, State.DISCARDED)
MOVED_AT_ONCE = 250
Pictures = Callable[[Sequence[Task]], Iterable[label_studio.Task]]


def send(engine: Engine, project: Project, pictures: Pictures) -> int:
    """Put the open tasks that the server does not have there, with their pictures; returns how many.

    What is no longer among the samples has no picture to send.
    """
    there, sent = shown(engine, project.title), 0
    missing = [t for t in tier_store.tasks(engine, project.title) if t.task not in there and t.state not in ENDED]
    task_of = {task.sample: task.task for task in missing}
    for numbers in project.upload(pictures(missing)) if missing else ():
        with writing(engine, f"tasks of {project.title}") as connection:
            _note(connection, {task_of[sample]: number for sample, number in numbers.items()})
        sent += len(numbers)
    return sent


def catch_up(engine: Engine, project: Project) -> None:
    """Take note of tasks that the server has or lost without our knowing: by a run that was killed, or by hand.

    Lost ones that are open are sent again. What people answered there stays: whoever deletes a task takes no answer
    back.
    """
    there = shown(engine, project.title)
    if project.size() == len(there):
        return
    numbers = project.numbers()
    tasks = {task.task: numbers.get(task.sample) for task in tier_store.tasks(engine, project.title)}
    gone = {task for task, (number, _) in there.items() if tasks[task] != number}
    new = {task: number for task, number in tasks.items() if number and (task not in there or task in gone)}
    with writing(engine, f"tasks of {project.title}") as connection:
        if gone:
            each = delete(SHOWN).where(SHOWN.c.task == bindparam("gone"))
            connection.execute(each, [{"gone": task} for task in gone])
        _note(connection, new)


def move(engine: Engine, project: Project, labels: Sequence[str], tiers: Tiers) -> int:
    """Show every task in the tab of its tier, with what was said of it so far; returns how many have moved."""
    there, recorded = shown(engine, project.title), tier_store.records(engine, project.title)
    crowd = tier_store.crowd_of(engine, project.title, labels, tiers)
    due = []
    for task in tier_store.tasks(engine, project.title):
        number, now = there.get(task.task, (0, None))
        given = recorded.get(task.task, [])
        if now and now != (wanted := view(task, given)):
            due.append((wanted.tier, wanted.note, task.task, _turn(number, wanted, given, crowd)))
    due.sort(key=lambda one: one[:3])  # those that show the same are changed by one request
    for start in range(0, len(due), MOVED_AT_ONCE):
        some = due[start : start + MOVED_AT_ONCE]
        project.show([turn for *_, turn in some])
        with writing(engine, f"tabs of {project.title}") as connection:
            each = update(SHOWN).where(SHOWN.c.task == bindparam("moved"))
            connection.execute(each, [{"moved": task, "tier": tier, "note": note} for tier, note, task, _ in some])
    return len(due)


def _turn(number: int, wanted: Shown, given: Sequence[Record], crowd: Crowd) -> Turn:
    """What a task is to show, and, to who judges, the likeliest of the answers so far as the proposal."""
    if wanted.tier not in (State.REVIEW, State.ARBITRATE):
        return Turn(number, wanted)
    current = [record.answer for record in given if record.ended is None and record.label]
    category, sure = crowd.believe(current)
    return Turn(number, wanted, category, wording(current) if category == CHANGE else "", round(sure, 3))


def _note(connection: Connection, numbers: Mapping[int, int]) -> None:
    """The server has these tasks under these numbers, as they were sent."""
    sent = vars(Shown(State.ANNOTATE))
    if numbers:
        rows = [{"task": task, "remote": number, **sent} for task, number in numbers.items()]
        connection.execute(insert_new(connection.engine, SHOWN), rows)


def shown(engine: Engine, project: str) -> dict[int, tuple[int, Shown]]:
    """The number on the server of every task that was sent, and what it shows there."""
    query = select(SHOWN).join(TASKS, TASKS.c.task == SHOWN.c.task).where(TASKS.c.project == project)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings()
        return {row["task"]: (row["remote"], Shown(row["tier"], row["note"])) for row in rows}


def view(task: Task, given: Sequence[Record]) -> Shown:
    """What those who are asked next should see; annotators see nobody's answer, only why a task came back."""
    if task.state in ENDED:
        return Shown("done")
    if task.state is State.ANNOTATE:
        back = [record.why for record in given if record.tier is Tier.REVIEW and not record.label]
        return Shown(task.state, f"a reviewer sent it back: {back[-1]}" if back else "")
    current = [record for record in given if record.ended is None]
    counts = Counter(record.label for record in current if record.tier is Tier.ANNOTATE)
    words = [f"{label}: {count}" for label, count in counts.most_common()]
    words += [f"{r.person} says: {r.why}" for r in current if r.tier is Tier.ANNOTATE and r.why]
    words += [f"the reviewer: {r.label or 'reject'} {r.why}".strip() for r in current if r.tier is Tier.REVIEW]
    return Shown(task.state, "; ".join(words))


def short(known: Sequence[Task], batch: int) -> bool:
    """Whether annotators have less than half a batch before them."""
    return 2 * sum(task.state is State.ANNOTATE and not task.gold for task in known) < batch


def chosen(engine: Engine, project: str) -> tuple[int, str]:
    """After how many ended tasks samples were last chosen (-1: never), and what was said of the gain left then."""
    query = select(PROJECTS.c.chosen_at, PROJECTS.c.outlook).where(PROJECTS.c.project == project)
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return (row.chosen_at, row.outlook) if row else (-1, "")


def add_chosen(engine: Engine, project: str, samples: Mapping[str, str], ended: int, outlook: str) -> int:
    """Add the chosen samples (gold ones with their label) as tasks; returns how many are new."""
    added = tier_store.add(engine, project, samples, "the chooser")
    with writing(engine, f"choice of {project}") as connection:
        values = {"chosen_at": ended, "outlook": outlook}
        connection.execute(update(PROJECTS).where(PROJECTS.c.project == project).values(values))
    return added
