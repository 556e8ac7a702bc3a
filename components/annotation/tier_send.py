"""Tasks here become tasks in Label Studio, and move there to the tab of the tier that they wait for.

What the server shows is kept in the database, and written there after the server has taken it: a kill in between means
that the same is sent once more, which changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Engine, delete, insert, select, update

from components.annotation import label_studio, tier_store
from components.annotation.label_studio import Project, Shown
from components.annotation.template import CHANGE, wording
from components.annotation.tier_schema import PROJECTS, SHOWN, TASKS, Record, Task
from components.annotation.tiers import State, Tier
from components.config import Tiers
from components.events.transactions import writing

ENDED = (State.DONE, State.DISCARDED)
Pictures = Callable[[Sequence[Task]], Sequence[label_studio.Task]]


def send(engine: Engine, project: Project, pictures: Pictures) -> int:
    """Put the open tasks that the server does not have there, with their pictures; returns how many."""
    there = shown(engine, project.title)
    missing = [t for t in tier_store.tasks(engine, project.title) if t.task not in there and t.state not in ENDED]
    if not missing:
        return 0
    sent = project.upload(pictures(missing))
    numbers = project.numbers()
    with writing(engine, f"tasks of {project.title}") as connection:
        for task in missing:
            if task.sample in numbers:  # what is no longer among the samples has no picture to send
                values = {"task": task.task, "remote": numbers[task.sample], **vars(Shown(State.ANNOTATE))}
                connection.execute(insert(SHOWN).values(values))
    return sent


def move(engine: Engine, project: Project, labels: Sequence[str], tiers: Tiers) -> int:
    """Show every task in the tab of its tier, with what was said of it so far; returns how many have moved."""
    there, recorded = shown(engine, project.title), tier_store.records(engine, project.title)
    crowd, moved = tier_store.crowd_of(engine, project.title, labels, tiers), 0
    for task in tier_store.tasks(engine, project.title):
        given = recorded.get(task.task, [])
        wanted = view(task, given)
        if task.task in there and there[task.task][1] != wanted:
            judged = wanted.tier in (State.REVIEW, State.ARBITRATE)
            current = [record.answer for record in given if record.ended is None and record.label]
            category, sure = crowd.believe(current) if judged else ("", 0.0)
            words = wording(current) if category == CHANGE else ""
            project.show(there[task.task][0], wanted, category, words, round(sure, 3))
            with writing(engine, f"tier of {task.sample}") as connection:
                connection.execute(update(SHOWN).where(SHOWN.c.task == task.task).values(**vars(wanted)))
            moved += 1
    return moved


def forget_lost(engine: Engine, project: Project) -> int:
    """Take note of tasks that were deleted on the server by hand, so that the open ones are sent again.

    What people answered there stays: whoever deletes a task takes no answer back.
    """
    there = shown(engine, project.title)
    if project.size() == len(there):
        return 0
    numbers = set(project.numbers().values())
    gone = [task for task, (number, _) in there.items() if number not in numbers]
    with writing(engine, f"tasks of {project.title}") as connection:
        connection.execute(delete(SHOWN).where(SHOWN.c.task.in_(gone)))
    return len(gone)


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
