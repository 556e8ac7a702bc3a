"""The simulated annotators: about as accurate as they claim, and silent on what they do not know."""

from __future__ import annotations

from pathlib import Path

from components.annotation import phrase_queue
from components.events.database import opened
from flows.demo.annotators import ACCURACY, NAMES, answer_all


def test_they_answer_what_they_understand_and_are_sometimes_wrong(tmp_path: Path) -> None:
    prompts = {f"phrase {n}": f"prompt {n}" for n in range(400)}
    url = f"sqlite:///{tmp_path / 'events.db'}"
    with opened(url) as engine:
        phrase_queue.enqueue(
            engine, [phrase_queue.phrase_task(phrase, "", "new") for phrase in [*prompts, "unknown"]], 1.0
        )
    told = answer_all(url, prompts, seed=7)
    assert told["simulated"] and told["answered"] == 400 and told["left open"] == 1
    with opened(url) as engine:
        written = phrase_queue.read_labels(engine)
        assert [task.phrase for task in phrase_queue.open_tasks(engine)] == ["unknown"]
    wrong = sum(prompts[label.phrase] != label.completion for label in written)
    assert wrong == told["wrong"] and abs(wrong / 400 - (1 - ACCURACY)) < 0.04
    assert {label.annotator for label in written} == set(NAMES)
