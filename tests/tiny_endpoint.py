"""An endpoint's artifact as a release makes it, with answers of anybody's choice, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from components.artifact import seal, write_text
from components.runtimes.endpoint import ANSWERS, KIND

SYSTEM_PROMPT = "Rewrite the phrase as a picture prompt."
PRICE = {"input": 2.0, "output": 8.0, "currency": "USD"}


def write_endpoint(folder: Path, url: str, answers: Mapping[str, str] | None = None) -> Path:
    """`answers`: by phrase."""
    by_conversation = {json.dumps([["user", phrase]]): answer for phrase, answer in (answers or {}).items()}
    write_text(folder / ANSWERS, json.dumps(by_conversation))
    parameters = {"url": url, "model": "big-one", "omit": [], "price": PRICE, "system_prompt": SYSTEM_PROMPT}
    seal(folder, line="text", kind=KIND, parents={}, parameters=parameters, metrics={})
    return folder
