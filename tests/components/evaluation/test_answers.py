"""How near an answer is to the wanted one, whatever the language."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluation.answers import (
    METRICS,
    chrf,
    exact,
    exact_normalised,
    longest_common_subsequence,
    rouge_l,
    scored,
    token_f1,
    tokens,
)


def test_the_nearer_to_the_wanted_text_the_higher() -> None:
    answers = ["dog: pet, animal", "dog: pet", "draw a dog", "tax form", ""]
    scores = chrf(answers, ["dog: pet, animal"] * 5)
    assert scores[0] == pytest.approx(1) and scores == sorted(scores, reverse=True)
    assert scores[1] > scores[2] + 0.1 and max(scores[3:]) < 0.1
    assert chrf(["红色的大苹果"], ["红色的大苹果"]) == pytest.approx([1])


def test_only_the_same_text_is_exact() -> None:
    assert [exact(text, "dog: pet") for text in (" dog: pet\n", "dog, pet", "dog: pets")] == [1, 0, 0]


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("  paris. ", "Paris", True),
        ("Port-au-Prince", "port au prince", True),
        ("ＴＯＫＹＯ", "Tokyo", True),  # full width
        ("Straße", "STRASSE", True),
        ("¿Sí?", "sí", True),
        ("The answer", "answer", False),  # no language's articles are dropped
        ("die Antwort", "Antwort", False),
        ("-5", "5", False),
        ("3.5", "35", False),
        ("C++", "C", False),
        ("", "?", False),
        ("?", "?", True),
        ("हिन्दी", "हन्द", False),  # vowel signs are part of the word
    ],
)
def test_case_punctuation_width_and_white_space_make_no_other_answer(answer: str, reference: str, same: bool) -> None:
    assert exact_normalised(answer, reference) == same
    assert (token_f1(answer, reference) == 1) == same and (rouge_l(answer, reference) == 1) == same


def test_words_are_what_the_language_writes_apart_and_characters_where_it_does_not() -> None:
    assert tokens("The Cat's hat!") == ["the", "cat", "s", "hat"]
    assert tokens("東京タワー 333m") == ["東", "京", "タ", "ワ", "ー", "333m"]
    assert len(tokens("กรุงเทพ")) == 7 and tokens("서울 타워") == ["서울", "타워"]
    assert tokens("हिन्दी भाषा") == ["हिन्दी", "भाषा"]


def test_f1_ignores_the_order_that_rouge_sees() -> None:
    assert token_f1("city of Mexico", "Mexico City") == pytest.approx(0.8)
    assert rouge_l("city of Mexico", "Mexico City") == pytest.approx(0.4)
    assert token_f1("北京市", "北京") == pytest.approx(0.8) == rouge_l("北京市", "北京")
    assert token_f1("Rome", "Paris") == 0 == rouge_l("", "Paris")


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
@settings(max_examples=60, deadline=None)
def test_the_longest_common_subsequence_is_the_longest(left: list[str], right: list[str]) -> None:
    def subsequences(items: list[str]) -> set[tuple[str, ...]]:
        return {one for size in range(len(items) + 1) for one in combinations(items, size)}

    longest = max(map(len, subsequences(left) & subsequences(right)))
    assert longest_common_subsequence(left, right) == longest


def test_every_metric_of_a_right_answer_is_one_and_of_a_wrong_one_nearly_none() -> None:
    scores = scored(["Antananarivo", "zzz"], ["Antananarivo", "Mogadishu"])
    assert set(scores) == set(METRICS)
    assert all(values[0] == pytest.approx(1) and values[1] < 0.1 for values in scores.values())
