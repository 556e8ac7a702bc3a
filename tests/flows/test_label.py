"""`atelier label phrases`: tasks out as JSON lines, answers in, all or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.config import Params
from components.events.database import opened
from components.learning import labels
from components.stage import StageError
from flows.label import listed, record
from tests.monitoring.test_report import params_in


@pytest.fixture
def params(tmp_path: Path) -> Params:
    params = params_in(tmp_path)
    with opened(params.events.url) as engine:
        labels.enqueue(engine, [labels.task_of("ein Boot", "car", "new")], 1.0)
    return params


def test_what_is_listed_can_be_answered(params: Params, tmp_path: Path) -> None:
    task = json.loads(listed(params))
    assert task["phrase"] == "ein Boot" and task["written"] == "car"
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"task": task["task"], "completion": "boat: sea", "annotator": "ada"}) + "\n\n")
    assert record(params, answers).startswith("1 answers recorded")
    assert listed(params) == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"task": "t"}', "answers.jsonl:1: completion: Field required"),
        ("\n\nnot json", "answers.jsonl:3: line: Invalid JSON"),
        ('{"task": "t", "completion": 3, "annotator": "ada"}', "answers.jsonl:1: completion: Input should be"),
        ('{"task": "t", "completion": "x", "annotator": "ada"}', "no task 't'"),
    ],
)
def test_a_wrong_line_is_named(params: Params, tmp_path: Path, line: str, words: str) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(line)
    with pytest.raises(StageError, match=words):
        record(params, answers)
