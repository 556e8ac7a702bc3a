"""The labelling templates in `templates/`: versioned, filled with choices; and what an annotation made of it says."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.stage import StageError

FOLDER = Path(__file__).parent / "templates"
CONTROL, REASON, OBJECT = "category", "why", "picture"  # names in every template


def read(name: str) -> str:
    """A template as it stands in its file."""
    return (FOLDER / f"{name}.xml").read_text(encoding="utf-8")


def version(template: str) -> int:
    """The number in the template's first comment."""
    found = re.search(r"<!-- version (\d+)", template)
    if found is None:
        raise StageError("the labelling template names no version in its first comment")
    return int(found[1])


def fill(template: str, categories: Sequence[str]) -> str:
    """The template with one choice per category."""
    choices = "".join(f'<Choice value="{html.escape(category)}"/>' for category in categories)
    return template.replace("<!-- choices -->", choices)


def proposal(category: str) -> dict[str, Any]:
    """The part of a prediction's result that chooses a category."""
    return {"from_name": CONTROL, "to_name": OBJECT, "type": "choices", "value": {"choices": [category]}}


def chosen(result: Sequence[dict[str, Any]]) -> str:
    """The one category of an annotation's result, empty where it names none or several."""
    choices = [c for part in result if part.get("from_name") == CONTROL for c in part["value"].get("choices", ())]
    return str(choices[0]) if len(choices) == 1 else ""


def reason(result: Sequence[dict[str, Any]]) -> str:
    """What an annotation's result says in words, beside or instead of a category."""
    return " ".join(t for part in result if part.get("from_name") == REASON for t in part["value"].get("text", ()))
