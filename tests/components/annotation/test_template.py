"""Templates hold the choices that they are filled with, and an annotation says what its own controls say."""

from __future__ import annotations

from typing import Any

import pytest

from components.annotation.template import (
    CHANGE,
    KEEP,
    LABELS,
    Template,
    chosen,
    fill,
    object_of,
    parse,
    proposal,
    read,
    version,
)
from components.stage import StageError


def test_a_template_is_filled_with_escaped_choices_and_names_its_version() -> None:
    assert fill("<!-- choices -->", ['a & "b"']) == '<Choice value="a &amp; &quot;b&quot;"/>'
    assert version("<!-- version 12: why -->") == 12
    with pytest.raises(StageError, match="names no version"):
        version("<View/>")


@pytest.mark.parametrize(
    ("result", "category"),
    [
        ([{"from_name": "category", "value": {"choices": ["a"]}}], "a"),
        ([{"from_name": "category", "value": {"choices": ["a", "b"]}}], ""),
        ([{"from_name": "other", "value": {"choices": ["a"]}}], ""),
        ([{"type": "relation"}], ""),
        ([], ""),
    ],
)
def test_only_one_choice_of_the_templates_own_control_is_an_answer(result: list[Any], category: str) -> None:
    assert chosen(result) == category


def test_words_beside_a_choice_are_read_as_the_reason() -> None:
    words = {"from_name": "why", "value": {"text": ["blurred,", "I think"]}}
    choice = {"from_name": "category", "value": {"choices": ["a"]}}
    assert parse("category", [choice, words], "") == ("a", "blurred, I think")
    assert parse("rating", [], "") == ("", "")


@pytest.mark.parametrize(
    ("written", "label", "words"),
    [
        ("a horse", KEEP, "why"),
        (" a  horse ", KEEP, "why"),
        ("a pony", CHANGE, "a pony"),
        (" a  pony:\n\tgrey\n", CHANGE, " a  pony:\n\tgrey\n"),
        ("", "", "why"),
    ],
)
def test_a_caption_is_kept_changed_or_taken_away(written: str, label: str, words: str) -> None:
    why = {"from_name": "why", "value": {"text": ["why"]}}
    assert parse("caption", [*proposal("caption", "", written), why], "a horse") == (label, words)


@pytest.mark.parametrize("name", LABELS)
def test_every_template_is_versioned_and_shows_the_controls_that_are_read(name: str) -> None:
    text = read(name)
    assert version(text) >= 1
    controls = {part["from_name"] for part in proposal(name, "a", "a horse")} | {"why"}
    assert all(f'name="{control}" toName="{object_of(name)}"' in text for control in controls)
    choices = () if name == "caption" else LABELS[name]
    assert all(f'<Choice value="{label}"/>' in fill(text, choices) for label in choices)
    fields = ("text", "left", "right", "note") if name == Template.PREFERENCE else ("image", "note")
    assert all(f'value="${field}"' in text for field in fields)
