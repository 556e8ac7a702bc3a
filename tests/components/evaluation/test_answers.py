"""An answer is compared with the wanted one by words, and what needs no model is an answer too."""

from __future__ import annotations

import math

import pytest

from components.data.pairs import Pair
from components.evaluation.answers import chrf, exact, names, unigram_loss
from tests.tiny_language import tiny_tokenizer


def test_the_nearer_to_the_wanted_text_the_higher() -> None:
    answers = ["dog: pet, animal", "dog: pet", "draw a dog", "tax form", ""]
    scores = chrf(answers, ["dog: pet, animal"] * 5)
    assert scores[0] == pytest.approx(1) and scores == sorted(scores, reverse=True)
    assert scores[1] > scores[2] + 0.1 and max(scores[3:]) < 0.1
    assert chrf(["红色的大苹果"], ["红色的大苹果"]) == pytest.approx([1])


def test_only_the_same_text_is_exact() -> None:
    assert [exact(text, "dog: pet") for text in (" dog: pet\n", "dog, pet", "dog: pets")] == [1, 0, 0]


def test_a_name_stands_in_a_phrase_as_whole_words() -> None:
    assert names("Draw a File Cabinet!", "file cabinet") and names("dog", "dog")
    assert not names("a hot-dogs stand", "dog") and not names("something about office and box", "file cabinet")


def test_who_knows_only_how_often_tokens_are_written_has_their_entropy() -> None:
    pairs = [Pair("x", "a" * 500, "a"), Pair("x", "b" * 500, "b")]
    assert unigram_loss(tiny_tokenizer(), pairs, [Pair("y", "ab" * 100, "c")]) == pytest.approx(math.log(2), abs=0.3)
