"""The queue of phrases that annotators write a picture prompt for: rows in the project's database.

A task is a phrase that a user sent; the same phrase sent again adds none. A task is open until somebody has answered
it, and the newest answer counts. Answers are kept for ever: who, when, what.

This is another mechanism than the labelling tasks of `task_store.py`, on purpose: an answer is free text, of which no
two agree and one is enough, so there are no tiers to pass; it is written in any editor, without Label Studio.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Engine, Select, func, select

from components.data.filters import normalise
from components.events.database import insert_new, opened
from components.events.schema import LABEL_ANSWERS, LABEL_TASKS
from components.stage import StageError

NEAR = 0.9  # MiniLM cosine from which an annotator has answered the phrase already, in other words


@dataclass(frozen=True)
class PhraseTask:
    """A phrase to write a prompt for, with what the model wrote and why it was chosen."""

    task: str
    phrase: str
    written: str
    why: str


@dataclass(frozen=True)
class PhraseAnswer:
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
    def key(self) -> str:
        return prompt_key(self.phrase)


ANSWER = TypeAdapter(PhraseAnswer)


def prompt_key(text: str) -> str:
    """The same for prompts that count as the same."""
    return normalise(text).casefold()


def phrase_id(phrase: str) -> str:
    """16 hexadecimal digits, the same for phrases that count as the same."""
    return hashlib.sha256(prompt_key(phrase).encode()).hexdigest()[:16]


def phrase_task(phrase: str, written: str, why: str) -> PhraseTask:
    """A task named by its phrase, so that the same phrase is the same task."""
    return PhraseTask(phrase_id(phrase), phrase, written, why)


def new_tasks(offered: Sequence[PhraseTask], queued: Iterable[PhraseTask]) -> list[PhraseTask]:
    """The offered tasks that are not in the queue, each once."""
    present = {task.task for task in queued}
    distinct = {task.task: task for task in reversed(offered)}
    return [task for task in distinct.values() if task.task not in present and normalise(task.phrase)]


def choose(
    tasks: Sequence[PhraseTask],
    covered: Sequence[str],
    count: int,
    embed: Callable[[Sequence[str]], NDArray[np.floating]],
) -> list[PhraseTask]:
    """At most `count` tasks, whose phrases are least like the covered ones; `embed` makes unit vectors of both."""
    from components.annotation.acquisition import least_covered  # imports scikit-learn

    rows = least_covered(embed([task.phrase for task in tasks]), embed(covered), count, NEAR)
    return [tasks[row] for row in rows]


def enqueue(engine: Engine, tasks: Sequence[PhraseTask], now: float) -> int:
    """Add the tasks that are not in the queue; returns how many."""
    insert = insert_new(engine, LABEL_TASKS)
    with engine.begin() as connection:
        return sum(connection.execute(insert, {**vars(task), "time": now}).rowcount for task in tasks)


def all_tasks(engine: Engine) -> list[PhraseTask]:
    """Every task, oldest first."""
    return _tasks(engine, LABEL_TASKS.select())


def open_tasks(engine: Engine) -> list[PhraseTask]:
    """Tasks that wait for an annotator, oldest first."""
    return _tasks(engine, LABEL_TASKS.select().where(LABEL_TASKS.c.task.not_in(select(LABEL_ANSWERS.c.task))))


def _tasks(engine: Engine, query: Select[Any]) -> list[PhraseTask]:
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(LABEL_TASKS.c.time, LABEL_TASKS.c.task)).mappings()
        return [PhraseTask(**{name: row[name] for name in PhraseTask.__dataclass_fields__}) for row in rows]


def list_open(url: str) -> str:
    """The open tasks as annotators get them: JSON lines, oldest first."""
    with opened(url) as engine:
        return "\n".join(json.dumps(asdict(task), ensure_ascii=False) for task in open_tasks(engine))


def record_file(url: str, path: Path) -> str:
    """Record the answers of a file of JSON lines, all or none; raises `StageError` that names the first wrong line."""
    answers = read_answers(path)
    with opened(url) as engine:
        record_answers(engine, answers, time.time())
    return f"{len(answers)} answers recorded; `atelier learn run` trains on them"


def read_answers(path: Path) -> list[PhraseAnswer]:
    """The answers of a file of JSON lines; raises `StageError` that names the first wrong line."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [_answer(line, f"{path}:{number}") for number, line in enumerate(file, 1) if line.strip()]


def _answer(line: str, place: str) -> PhraseAnswer:
    try:
        return ANSWER.validate_json(line, strict=True, extra="forbid")
    except ValidationError as error:
        problem = error.errors()[0]
        raise StageError(f"{place}: {'.'.join(map(str, problem['loc'])) or 'line'}: {problem['msg']}") from error


def record_answers(engine: Engine, answers: Sequence[PhraseAnswer], now: float) -> None:
    """Record what annotators wrote, all or none; raises `StageError` for an unknown task or an empty answer."""
    rows = [{**vars(answer), "time": now} for answer in answers]
    if empty := [row["task"] for row in rows if not normalise(row["completion"]) or not row["annotator"]]:
        raise StageError(f"task {empty[0]}: an answer needs a prompt and the name of who wrote it")
    if unknown := {row["task"] for row in rows} - {task.task for task in all_tasks(engine)}:
        raise StageError(f"no task {min(unknown)!r}; `atelier label phrases` lists the open ones")
    with engine.begin() as connection:
        for row in rows:
            connection.execute(LABEL_ANSWERS.insert(), row)


def read_labels(engine: Engine) -> list[Label]:
    """The newest answer of every answered task, in the order of tasks."""
    newest = select(func.max(LABEL_ANSWERS.c.number)).group_by(LABEL_ANSWERS.c.task)
    query = (
        select(LABEL_TASKS.c.task, LABEL_TASKS.c.phrase, LABEL_ANSWERS.c.completion, LABEL_ANSWERS.c.annotator)
        .join(LABEL_ANSWERS, LABEL_ANSWERS.c.task == LABEL_TASKS.c.task)
        .where(LABEL_ANSWERS.c.number.in_(newest))
        .order_by(LABEL_TASKS.c.task)
    )
    with engine.connect() as connection:
        return [Label(**row) for row in connection.execute(query).mappings()]
