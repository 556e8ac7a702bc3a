"""The labelling templates in `templates/`: versioned, filled with choices; and what an annotation made of it says."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.annotation.tiers import ORDER, Answer, State
from components.data.filters import normalise
from components.learning.comparisons import CHOICES
from components.stage import StageError

FOLDER = Path(__file__).parent / "templates"
CONTROL, CAPTION, REASON = "category", "written", "why"  # names in the templates
PREFERENCE = "preference"
KEEP, CHANGE = "keep", "change"
BAD = "bad"
# The labels of each template; those of `category` are the data's.
LABELS: dict[str, tuple[str, ...]] = {
    "category": (),
    "caption": (KEEP, CHANGE),
    "rating": ("good", "fair", BAD),
    PREFERENCE: CHOICES,
}


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


def object_of(name: str) -> str:
    """What the controls of a template belong to, by its name there."""
    return "phrase" if name == PREFERENCE else "picture"


def proposal(name: str, label: str, caption: str) -> list[dict[str, Any]]:
    """What a prediction proposes: a choice, or in the template for captions the words; nothing where there is none."""
    if name == "caption":
        return [{"from_name": CAPTION, "to_name": object_of(name), "type": "textarea", "value": {"text": [caption]}}]
    chosen = {"from_name": CONTROL, "to_name": object_of(name), "type": "choices", "value": {"choices": [label]}}
    return [chosen] if label else []


def said(name: str, result: Sequence[dict[str, Any]], caption: str) -> tuple[str, str]:
    """The label that an annotation's result gives, empty where there is none, and the words with it.

    A caption that is left as it was is kept; one that was changed is the words. That two people change it is agreement,
    however each does: there is no one right caption.
    """
    if name != "caption":
        return chosen(result), _words(result, REASON)
    written = _words(result, CAPTION)
    if not normalise(written) or normalise(written) == normalise(caption):
        return KEEP if normalise(written) else "", _words(result, REASON)
    return CHANGE, written


def chosen(result: Sequence[dict[str, Any]]) -> str:
    """The one category of an annotation's result, empty where it names none or several."""
    choices = [c for part in result if part.get("from_name") == CONTROL for c in part["value"].get("choices", ())]
    return str(choices[0]) if len(choices) == 1 else ""


def wording(answers: Sequence[Answer]) -> str:
    """The caption that answers ask for: the highest tier's, of annotators' the most frequent; empty where none does."""
    changes = [answer for answer in answers if answer.label == CHANGE]
    highest = max((ORDER.index(State(answer.tier)) for answer in changes), default=0)
    written = [answer.why for answer in changes if ORDER.index(State(answer.tier)) == highest]
    count = Counter(map(normalise, written))
    return max(written, key=lambda words: count[normalise(words)], default="")


def _words(result: Sequence[dict[str, Any]], control: str) -> str:
    return " ".join(t for part in result if part.get("from_name") == control for t in part["value"].get("text", ()))
