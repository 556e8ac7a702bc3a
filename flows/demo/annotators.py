"""SIMULATED annotators: they answer the label queue with what the simulated users meant, and sometimes wrongly.

They stand for people who understand a phrase; nothing here reads one. What a phrase meant comes from those who sent it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.annotation import phrase_queue
from components.events.database import opened

NAMES = ("simulated-annotator-1", "simulated-annotator-2", "simulated-annotator-3")
ACCURACY = 0.95  # made up: no measured person


def answer_all(url: str, prompts: Mapping[str, str], seed: int) -> dict[str, Any]:
    """Answer every open task whose phrase is in `prompts` (phrase → the right picture prompt); the others stay open."""
    rng, everything = np.random.default_rng(seed), sorted(set(prompts.values()))
    with opened(url) as engine:
        waiting = phrase_queue.open_tasks(engine)
        understood = [task for task in waiting if task.phrase in prompts]
        answers = [_write(task.task, prompts[task.phrase], everything, rng) for task in understood]
        phrase_queue.record_answers(engine, answers, time.time())
    wrong = sum(answer.completion != prompts[task.phrase] for answer, task in zip(answers, understood, strict=True))
    return {"simulated": True, "answered": len(answers), "wrong": wrong, "left open": len(waiting) - len(answers)}


def _write(task: str, right: str, everything: Sequence[str], rng: np.random.Generator) -> phrase_queue.PhraseAnswer:
    others = [prompt for prompt in everything if prompt != right]
    written = right if rng.random() < ACCURACY else str(rng.choice(others))
    return phrase_queue.PhraseAnswer(task, written, str(rng.choice(NAMES)))
