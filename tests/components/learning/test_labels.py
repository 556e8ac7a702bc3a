"""The label queue: a phrase is asked once, the newest answer counts, nothing is half recorded."""

from __future__ import annotations

import pytest

from components.events.database import opened
from components.learning.labels import Answer, answer, answered, enqueue, known, task_of, unanswered
from components.stage import StageError

BOAT, CAR = task_of("a boat", "car", "new"), task_of("a car", "car", "new")


def test_a_phrase_is_asked_once_however_it_is_spaced(url: str) -> None:
    with opened(url) as engine:
        assert enqueue(engine, [BOAT, CAR], 1.0) == 2
        assert enqueue(engine, [task_of(" A  boat ", "ship", "again"), task_of("fog", "x", "new")], 2.0) == 1
        assert {task.phrase for task in unanswered(engine)} == {"a boat", "a car", "fog"}
        assert unanswered(engine)[-1].phrase == "fog"


def test_the_newest_answer_counts_and_closes_the_task(url: str) -> None:
    with opened(url) as engine:
        enqueue(engine, [BOAT, CAR], 1.0)
        answer(engine, [Answer(BOAT.task, "boot", "ada"), Answer(BOAT.task, " boat:  sea ", "bob")], 2.0)
        assert [(label.phrase, label.completion, label.annotator) for label in answered(engine)] == [
            ("a boat", " boat:  sea ", "bob")
        ]
        assert unanswered(engine) == [CAR] and len(known(engine)) == 2


@pytest.mark.parametrize(
    ("bad", "words"),
    [(Answer("nope", "x", "ada"), "no task 'nope'"), (Answer(BOAT.task, "  ", "ada"), "needs a prompt")],
)
def test_one_bad_answer_and_none_is_recorded(url: str, bad: Answer, words: str) -> None:
    with opened(url) as engine:
        enqueue(engine, [BOAT, CAR], 1.0)
        with pytest.raises(StageError, match=words):
            answer(engine, [Answer(CAR.task, "car: road", "ada"), bad], 2.0)
        assert answered(engine) == []
