"""Templates hold the choices that they are filled with, and an annotation says what its own controls say."""

from __future__ import annotations

from typing import Any

import pytest

from components.annotation.template import chosen, fill, reason, version
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
    assert reason([{"from_name": "category", "value": {"choices": ["a"]}}, words]) == "blurred, I think"
    assert reason([]) == ""
