"""`atelier label phrases`: the phrases that wait for a picture prompt, for people to answer with any editor."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from components.config import Params
from components.events.database import opened
from components.learning import labels
from components.stage import StageError

ANSWER = TypeAdapter(labels.Answer)


def listed(params: Params) -> str:
    """The open tasks as JSON lines, oldest first."""
    with opened(params.events.url) as engine:
        return "\n".join(json.dumps(asdict(task), ensure_ascii=False) for task in labels.unanswered(engine))


def record(params: Params, path: Path) -> str:
    """Take the answers of a file, all or none: the first line that is wrong is named before any is stored."""
    with path.open(encoding="utf-8", newline="\n") as file:
        answers = [_answer(line, f"{path}:{number}") for number, line in enumerate(file, 1) if line.strip()]
    with opened(params.events.url) as engine:
        labels.answer(engine, answers, time.time())
    return f"{len(answers)} answers recorded; `atelier learn run` trains on them"


def _answer(line: str, place: str) -> labels.Answer:
    try:
        return ANSWER.validate_json(line, strict=True, extra="forbid")
    except ValidationError as error:
        problem = error.errors()[0]
        raise StageError(f"{place}: {'.'.join(map(str, problem['loc'])) or 'line'}: {problem['msg']}") from error
