"""People, annotations and a check of everything that must hold of a project's tasks, whatever has happened to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sqlalchemy import Engine

from components.annotation import task_store
from components.annotation.crowd import unknown_crowd
from components.annotation.label_studio import RemoteAnnotation, RemoteTask
from components.annotation.sync import reconcile
from components.annotation.task_store import Move, Task
from components.annotation.workflow import MoveKind, State
from components.config import Tiers

PROJECT = "stickers"
TASK = "1@1700000000"  # of every sample: no two samples' tasks are compared
LABELS = ("animal", "face", "food", "place")
TIERS = Tiers(
    first=2,
    most=4,
    certain=0.97,
    review_from=0.8,
    rejections=1,
    gold_share=0.2,
    min_accuracy=0.6,
    expected={"annotate": 0.8, "review": 0.92, "arbitrate": 0.95},
    reviewers=("7", "8"),
    arbiters=("9",),
)
CROWD = unknown_crowd(LABELS, TIERS)


def annotation(number: int, sample: str, person: int, label: str, minute: int = 0) -> RemoteAnnotation:
    """An annotation in Label Studio, last edited at that minute."""
    return RemoteAnnotation(TASK, number, sample, label, person, f"2026-01-01T10:{minute:02}:00+00:00")


def changes(given: Sequence[RemoteAnnotation], samples: Sequence[str] = ()) -> tuple[list[RemoteTask], str]:
    """Every task of those samples, and of those with annotations, as the server has them."""
    names = dict.fromkeys([*samples, *(one.sample_id for one in given)])
    return [RemoteTask(TASK, name, tuple(a for a in given if a.sample_id == name)) for name in names], ""


def only_task(engine: Engine) -> Task:
    (task,) = task_store.read_tasks(engine, PROJECT)
    return task


def answer(engine: Engine, person: str, label: str, why: str = "") -> Task:
    """A person answers the only task, in a copy of it on the server: the answers before stay as they are."""
    number = sum(map(len, task_store.read_answers(engine, PROJECT).values())) + 1
    sample, copy = only_task(engine).sample, f"{number}@1700000000"
    given = replace(annotation(number, sample, int(person), label, number), task=copy, why=why)
    reconcile(engine, PROJECT, lambda _: ([RemoteTask(copy, sample, (given,))], ""), LABELS, TIERS)
    return only_task(engine)


def kinds(engine: Engine) -> list[MoveKind]:
    return [move.kind for move in task_store.read_moves(engine, PROJECT)]


def check(engine: Engine, project: str = PROJECT) -> None:
    """Whole histories, one current answer a person, nobody's work judged by themselves, no annotation twice."""
    recorded = task_store.read_answers(engine, project)
    moves_of: dict[int, list[Move]] = {}
    for move in task_store.read_moves(engine, project):
        moves_of.setdefault(move.task, []).append(move)
    for task in task_store.read_tasks(engine, project):
        mine = moves_of[task.task]
        assert all(a.target is b.source and a.version < b.version for a, b in pairwise(mine))
        assert (mine[0].kind, mine[-1].target, mine[-1].version <= task.version) == (MoveKind.CREATE, task.state, True)
        assert all(move.who and move.why and move.time for move in mine)
        assert bool(task.label) is (task.state is State.DONE)
        given = recorded.get(task.task, [])
        current = [record.person for record in given if record.ended is None]
        assert len(current) == len(set(current))
        assert all(len({r.tier for r in given if r.person == person}) == 1 for person in current)
        forms = [(record.source, record.stamp) for record in given if record.source]
        assert len(forms) == len(set(forms))
