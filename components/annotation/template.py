"""The labelling templates in `templates/`: versioned, filled with choices; and the parser of their annotations."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from components.annotation.workflow import ORDER, Answer, State
from components.data.filters import normalise
from components.stage import StageError

FOLDER = Path(__file__).parent / "templates"
CONTROL, CAPTION, REASON = "category", "written", "why"  # names in the templates
KEEP, CHANGE = "keep", "change"  # the labels of a caption
BAD = "bad"  # the rating that leaves a sample out


class Template(StrEnum):
    """What people are asked, by the name of the template's file."""

    CATEGORY = "category"
    CAPTION = "caption"
    RATING = "rating"
    PREFERENCE = "preference"


class Choice(StrEnum):
    """Which of two answers is better: the labels of `Template.PREFERENCE`."""

    LEFT = "left"
    RIGHT = "right"
    SAME = "no difference"
    BOTH_BAD = "both bad"


# The labels of each template; those of `category` are the data's.
LABELS: dict[str, tuple[str, ...]] = {
    Template.CATEGORY: (),
    Template.CAPTION: (KEEP, CHANGE),
    Template.RATING: ("good", "fair", BAD),
    Template.PREFERENCE: tuple(choice.value for choice in Choice),
}


def read(name: str) -> str:
    """A template as it stands in its file."""
    return (FOLDER / f"{name}.xml").read_text(encoding="utf-8")


def version(xml: str) -> int:
    """The number in the template's first comment."""
    comment = re.search(r"<!-- version (\d+)", xml)
    if comment is None:
        raise StageError("the labelling template names no version in its first comment")
    return int(comment[1])


def fill(xml: str, categories: Sequence[str]) -> str:
    """The template with one choice per category."""
    choices = "".join(f'<Choice value="{html.escape(category)}"/>' for category in categories)
    return xml.replace("<!-- choices -->", choices)


def object_of(name: str) -> str:
    """What the controls of a template belong to, by its name there."""
    return "phrase" if name == Template.PREFERENCE else "picture"


def proposal(name: str, label: str, caption: str) -> list[dict[str, Any]]:
    """A prediction's result: a choice, or in the template for captions the caption; empty where there is no label."""
    if name == Template.CAPTION:
        return [{"from_name": CAPTION, "to_name": object_of(name), "type": "textarea", "value": {"text": [caption]}}]
    choice = {"from_name": CONTROL, "to_name": object_of(name), "type": "choices", "value": {"choices": [label]}}
    return [choice] if label else []


def parse(name: str, result: Sequence[dict[str, Any]], caption: str) -> tuple[str, str]:
    """The label of an annotation's result, empty where there is none, and the text written beside it.

    A caption left as it was is `KEEP`; a changed one is `CHANGE`, and the text is the new caption. Two people who both
    change it agree, whatever each wrote: there is no one right caption.
    """
    if name != Template.CAPTION:
        return chosen(result), _text(result, REASON)
    written = _text(result, CAPTION)
    if not normalise(written) or normalise(written) == normalise(caption):
        return KEEP if normalise(written) else "", _text(result, REASON)
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
    return max(written, key=lambda caption: count[normalise(caption)], default="")


def _text(result: Sequence[dict[str, Any]], control: str) -> str:
    return " ".join(t for part in result if part.get("from_name") == control for t in part["value"].get("text", ()))
