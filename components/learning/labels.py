"""The queue of phrases that annotators are asked to write a picture prompt for: rows in the project's database.

A task is a phrase that a user sent; asking for the same phrase again adds none. A task is open until somebody has
answered it, and the newest answer counts. Answers are kept for ever: who, when, what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, and_, func, select

from components.data.filters import normalise
from components.events.database import insert_new
from components.events.schema import LABEL_ANSWERS, LABEL_TASKS
from components.learning.harvest import same_prompt
from components.stage import StageError


@dataclass(frozen=True)
class Task:
    """A phrase to write a prompt for, with what the model wrote and why it was chosen."""

    task: str
    phrase: str
    written: str
    why: str


@dataclass(frozen=True)
class Answer:
    """The picture prompt that an annotator wrote for a task."""

    task: str
    completion: str
    annotator: str


@dataclass(frozen=True)
class Label:
    """The prompt that an annotator wrote for a task's phrase."""

    task: str
    phrase: str
    completion: str
    annotator: str

    @property
    def asked(self) -> str:
        return same_prompt(self.phrase)


def task_of(phrase: str, written: str, why: str) -> Task:
    """A task named by its phrase, so that the same phrase is the same task."""
    return Task(name_of(phrase), phrase, written, why)


def name_of(phrase: str) -> str:
    """16 hexadecimal digits, the same for phrases that count as the same."""
    return hashlib.sha256(same_prompt(phrase).encode()).hexdigest()[:16]


def enqueue(engine: Engine, tasks: Sequence[Task], time: float) -> int:
    """Add the tasks that the queue does not know; returns how many."""
    insert = insert_new(engine, LABEL_TASKS)
    with engine.begin() as connection:
        return sum(connection.execute(insert, {**vars(task), "time": time}).rowcount for task in tasks)


def known(engine: Engine) -> dict[str, Task]:
    """Every task by its name, oldest first."""
    return {task.task: task for task in _tasks(engine, LABEL_TASKS.select())}


def unanswered(engine: Engine) -> list[Task]:
    """Tasks that wait for an annotator, oldest first."""
    return _tasks(engine, LABEL_TASKS.select().where(LABEL_TASKS.c.task.not_in(select(LABEL_ANSWERS.c.task))))


def _tasks(engine: Engine, query: Select[Any]) -> list[Task]:
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(LABEL_TASKS.c.time, LABEL_TASKS.c.task)).mappings()
        return [Task(**{name: row[name] for name in Task.__dataclass_fields__}) for row in rows]


def answer(engine: Engine, answers: Sequence[Answer], time: float) -> None:
    """Record what annotators wrote, all or none; raises `StageError` for a task that does not exist or empty words."""
    rows = [{**vars(one), "time": time} for one in answers]
    if empty := [row["task"] for row in rows if not normalise(row["completion"]) or not row["annotator"]]:
        raise StageError(f"task {empty[0]}: an answer needs a prompt and the name of who wrote it")
    if unknown := {row["task"] for row in rows} - known(engine).keys():
        raise StageError(f"no task {min(unknown)!r}; `atelier label phrases` lists the open ones")
    with engine.begin() as connection:
        for row in rows:
            connection.execute(LABEL_ANSWERS.insert(), row)


def answered(engine: Engine) -> list[Label]:
    """The newest answer of every answered task, in the order of tasks."""
    newest = (
        select(LABEL_ANSWERS.c.task, func.max(LABEL_ANSWERS.c.number).label("number"))
        .group_by(LABEL_ANSWERS.c.task)
        .subquery()
    )
    query = (
        select(LABEL_TASKS.c.task, LABEL_TASKS.c.phrase, LABEL_ANSWERS.c.completion, LABEL_ANSWERS.c.annotator)
        .join(LABEL_ANSWERS, LABEL_ANSWERS.c.task == LABEL_TASKS.c.task)
        .join(newest, and_(newest.c.task == LABEL_ANSWERS.c.task, newest.c.number == LABEL_ANSWERS.c.number))
        .order_by(LABEL_TASKS.c.task)
    )
    with engine.connect() as connection:
        return [Label(**row) for row in connection.execute(query).mappings()]
