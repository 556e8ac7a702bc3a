"""The queue of phrases: each once, out and in as JSON lines; the newest answer counts, nothing is half recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.annotation.phrase_queue import (
    PhraseAnswer,
    all_tasks,
    enqueue,
    list_open,
    open_tasks,
    phrase_task,
    read_labels,
    record_answers,
    record_file,
)
from components.events.database import opened
from components.stage import StageError

BOAT, CAR = phrase_task("a boat", "car", "new"), phrase_task("a car", "car", "new")


def test_a_phrase_is_asked_once_however_it_is_spaced(url: str) -> None:
    with opened(url) as engine:
        assert enqueue(engine, [BOAT, CAR], 1.0) == 2
        assert enqueue(engine, [phrase_task(" A  boat ", "ship", "again"), phrase_task("fog", "x", "new")], 2.0) == 1
        assert {task.phrase for task in open_tasks(engine)} == {"a boat", "a car", "fog"}
        assert open_tasks(engine)[-1].phrase == "fog"


def test_the_newest_answer_counts_and_closes_the_task(url: str) -> None:
    with opened(url) as engine:
        enqueue(engine, [BOAT, CAR], 1.0)
        record_answers(
            engine, [PhraseAnswer(BOAT.task, "boot", "ada"), PhraseAnswer(BOAT.task, " boat:  sea ", "bob")], 2.0
        )
        assert [(label.phrase, label.completion, label.annotator) for label in read_labels(engine)] == [
            ("a boat", " boat:  sea ", "bob")
        ]
        assert open_tasks(engine) == [CAR] and len(all_tasks(engine)) == 2


@pytest.mark.parametrize(
    ("bad", "words"),
    [(PhraseAnswer("nope", "x", "ada"), "no task 'nope'"), (PhraseAnswer(BOAT.task, "  ", "ada"), "needs a prompt")],
)
def test_one_bad_answer_and_none_is_recorded(url: str, bad: PhraseAnswer, words: str) -> None:
    with opened(url) as engine:
        enqueue(engine, [BOAT, CAR], 1.0)
        with pytest.raises(StageError, match=words):
            record_answers(engine, [PhraseAnswer(CAR.task, "car: road", "ada"), bad], 2.0)
        assert read_labels(engine) == []


@pytest.fixture
def queue(tmp_path: Path) -> str:
    """The URL of a database with one open task."""
    url = f"sqlite:///{tmp_path / 'events.db'}"
    with opened(url) as engine:
        enqueue(engine, [phrase_task("ein Boot", "car", "new")], 1.0)
    return url


def test_what_is_listed_can_be_answered(queue: str, tmp_path: Path) -> None:
    task = json.loads(list_open(queue))
    assert task["phrase"] == "ein Boot" and task["written"] == "car"
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"task": task["task"], "completion": "boat: sea", "annotator": "ada"}) + "\n\n")
    assert record_file(queue, answers).startswith("1 answers recorded")
    assert list_open(queue) == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"task": "t"}', "answers.jsonl:1: completion: Field required"),
        ("\n\nnot json", "answers.jsonl:3: line: Invalid JSON"),
        ('{"task": "t", "completion": 3, "annotator": "ada"}', "answers.jsonl:1: completion: Input should be"),
        ('{"task": "t", "completion": "x", "annotator": "ada"}', "no task 't'"),
    ],
)
def test_a_wrong_line_is_named(queue: str, tmp_path: Path, line: str, words: str) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(line)
    with pytest.raises(StageError, match=words):
        record_file(queue, answers)
