from __future__ import annotations

import json
import random

import pytest

from components.data.filters import Candidate
from components.data.text_rules import Boilerplate, Repetition, Script, Words, script_of

RNG = random.Random(7)
ENGLISH = [f"w{number}" for number in range(2000)]
CHINESE = [chr(0x4E00 + number) for number in range(2000)]


def fault(rule: Script | Repetition | Boilerplate | Words, *texts: str) -> str:
    return rule.fault(Candidate("", texts=list(texts)))


def prose(words: list[str], count: int) -> list[str]:
    return RNG.choices(words, k=count)


@pytest.mark.parametrize(
    ("allowed", "text", "share"),
    [
        (("latin",), "Ein Bär, 3 Füße 🐻 Ａｂｃ 𝐀", 1),
        (("latin",), "привет мир", 0),
        (("cyrillic",), "привет мир", 1),
        (("han", "hiragana", "katakana"), "コーヒーを々飲む", 1),
        (("han",), "一只红色的狐狸坐在雪地里", 1),
        (("arabic",), "مرحبا بالعالم", 1),
        (("devanagari",), "नमस्ते दुनिया", 1),
        (("hangul",), "안녕하세요", 1),
        (("thai",), "สวัสดีชาวโลก", 1),
        (("latin",), "ab привет", 0.25),
        (("latin",), "12 🚀 !?", 1),  # no letter
    ],
)
def test_the_share_of_letters_in_a_script_is_told_of_every_script(
    allowed: tuple[str, ...], text: str, share: float
) -> None:
    for least in (0.2, 0.5):
        rule = Script.model_validate_json(json.dumps({"allowed": allowed, "min_share": least}))
        assert bool(fault(rule, text)) == (share < least)


@pytest.mark.parametrize(("words", "space"), [(ENGLISH, " "), (CHINESE, "")])
def test_text_that_repeats_itself_is_found_in_scripts_with_spaces_and_without(words: list[str], space: str) -> None:
    def text(parts: list[str]) -> str:
        return space.join(parts)

    rule, plain = Repetition(), prose(words, 400)
    lines = [text(prose(words, 20)) for _ in range(10)]
    assert fault(rule, text(plain)) == fault(rule, "\n".join(lines)) == fault(rule, "\n\n".join(lines)) == ""
    assert "0.40 of its lines are repeated, more than 0.3" in fault(rule, "\n".join(lines[:6] + lines[:4]))
    long = [text(prose(words, 200)), *lines[:6]]
    assert "characters are in repeated lines" in fault(rule, "\n".join([long[0], *lines[:6], long[0]]))
    apart = Repetition(max_repeated_lines=1, max_repeated_line_characters=1)
    assert "of its paragraphs are repeated" in fault(apart, "\n\n".join(lines[:6] + lines[:4]))
    assert "most frequent 2 words" in fault(rule, text([part for word in plain for part in (*words[:4], word)]))
    assert "5 words in a row that it has already" in fault(rule, text(plain[:100] + plain[:30]))
    assert fault(rule, text(plain[:200] + plain[:20])) == ""  # a tenth
    assert fault(rule, text(plain[:20] * 2)) == ""  # too short to be judged
    assert "more than" in fault(Repetition(min_words=4), text(plain[:20] * 2))


def test_each_text_of_a_sample_is_judged_by_itself_and_brackets_of_code_are_no_lines() -> None:
    text = " ".join(prose(ENGLISH, 60))
    assert fault(Repetition(), text, text) == ""
    code = "\n".join(
        line
        for number in range(30)
        for line in (f"    if word{number} and term{number}: variable{number} = value{number}", "    }", "", "---")
    )
    assert fault(Repetition(), code) == ""
    assert "repeated" in fault(Repetition(), "fine", "again\n" * 60)


def test_boilerplate_is_found_in_any_case_and_spacing() -> None:
    assert fault(Boilerplate(), "fine", "As an  AI\nLanguage Model, I") == "it holds 'as an ai language model'"
    assert fault(Boilerplate(phrases=("点击 订阅",)), "请点击\n订阅") and not fault(Boilerplate(), "a language model")


@pytest.mark.parametrize(
    ("word", "text", "held"),
    [
        ("ass", "what an ASS!", True),
        ("ass", "a class, an assassin, ass_1, 2ass", False),
        ("damn", "他说damn了", True),  # no letter of its script goes on
        ("笨蛋", "你是笨蛋吗", True),
        ("क", "कि का", False),  # a vowel sign follows
        ("का", "का है", True),
        ("дурак", "ДУРАК.", True),
        ("дурак", "дурака", False),
        ("two words", "Two\n words", True),
        ("c++", "in C++ then", True),
        ("cafe\u0301", "CAFÉ", True),
    ],
)
def test_a_word_is_found_whole_in_every_script(word: str, text: str, held: bool) -> None:
    assert bool(fault(Words(words=("other", word)), text)) == held


def test_a_shorter_word_is_found_where_a_longer_one_is_not() -> None:
    assert fault(Words(words=("bad egg", "bad")), "bad eggs") == "it holds the word 'bad'"


def test_scripts_are_told_by_their_letters() -> None:
    texts = ["Latin é", "кириллица", "漢字", "ひらがなかな", "العربية", "한국어", "ελληνικά", "123 !?"]
    scripts = ["latin", "cyrillic", "han", "hiragana", "arabic", "hangul", "greek", ""]
    assert list(map(script_of, texts)) == scripts
