"""What is suspect is named with its reason, and ordinary writing in many scripts is not."""

from __future__ import annotations

import pytest

from components.data.sample import Sample
from components.doctor.suspicion import Usual, of_caption, of_pair, of_text

ANSWERS = ["This is an ordinary answer of a usual length, and it ends as a sentence does."] * 30
USUAL = Usual.of(ANSWERS)
FINE = [
    "This is an ordinary answer of a usual length, and it ends as a sentence does.",
    "Elle a répondu : « CAFÉ », puis « DÉJÀ VU »… et s'en est allée à São Paulo.",
    "Die Größe der Äpfel überraschte ihn; „Österreich“ schrieb er auf die Tüte.",
    "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας και η μεγαλύτερη πόλη της χώρας.",
    "Столица Франции — Париж, крупный город на Сене, известный своими музеями.",
    "عاصمة فرنسا هي باريس، وهي مدينة كبيرة على نهر السين ومشهورة بمتاحفها.",
    "日本の首都は東京です。世界でも最大級の都市の一つで、多くの人が住んでいます。",
    "हिन्दी भारत की एक प्रमुख भाषा है और इसे देवनागरी लिपि में लिखा जाता है।",
    "def area(radius):\n    if radius < 0:\n        raise ValueError('negative')\n    return 3.14159 * radius ** 2",
    "1. Wash the apples.\n2. Cut them into slices.\n3. Bake them for 20 minutes at 180 °C.",
]


def pair(answer: str, prompt: str = "What is asked here, please?", **meta: object) -> Sample:
    return Sample("a", prompt, meta={"completion": answer, **meta})


@pytest.mark.parametrize("text", FINE)
def test_ordinary_writing_is_not_suspect(text: str) -> None:
    assert list(of_text(text)) == []
    assert of_pair(pair(text), Usual.of(FINE)) == []


@pytest.mark.parametrize(
    ("answer", "slug", "words"),
    [
        ("Le cafÃ© est fermÃ© aujourd'hui, dit le garçon de la maison.", "mojibake", "'é' read in the wrong"),
        ("Î‘Î¸Î®Î½Î± is the capital, and that is a fact that stands here.", "mojibake", "read in the wrong"),
        ("A text with a hole \ufffd in it, of some length so that it is fine.", "replaced", "U+FFFD"),
        ("the falcon sings " * 40 + ".", "repetition", "by the filter repetition"),
        ("哈哈哈哈" * 20 + "。", "repetition", "by the filter repetition"),
        ("#### ---- **** !!!! ====", "symbols", "100% symbols"),
        ("<div>An answer with what a page left behind in it.</div>", "markup", "'<div>'"),
        ("What is asked here, please?", "echo", "is the prompt"),
        ("An answer that simply stops somewhere before it has come to", "cut_off", "in the middle of a sentence"),
        ("Here it is:\n```python\nprint('never closed')\n", "cut_off", "does not close it"),
        ("As an AI language model I cannot have an opinion on such things.", "boilerplate", "as an ai language model"),
        ("Write to ann@example.com, who answers all who ask for it there.", "personal_data", "1 × email"),
        ("x", "short_text", "1 characters"),
        ("word " * 4000 + ".", "long_text", "20,001 characters"),
    ],
)
def test_what_is_suspect_is_named_with_its_reason(answer: str, slug: str, words: str) -> None:
    found = {name: reason for name, _, reason in of_pair(pair(answer), USUAL)}
    assert words in found[slug]


def test_an_earlier_turn_may_be_empty() -> None:
    history = [{"role": "user", "content": " "}, {"role": "assistant", "content": "Hello."}]
    assert [slug for slug, *_ in of_pair(pair(ANSWERS[0], history=history), USUAL)] == ["empty_turn"]


@pytest.mark.parametrize("name", ["IMG_0042", "cat.png", "DSC01234.JPG"])
def test_a_caption_may_be_a_files_name(name: str) -> None:
    assert "file_name" in [slug for slug, *_ in of_caption(name, USUAL)]
    assert of_caption("a red apple beside a blue cup, painted on a wall", Usual.of([])) == []
