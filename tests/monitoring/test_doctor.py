"""The doctor's page: one file that fetches nothing and runs nothing, whatever the data says."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from components.doctor.common import histogram
from components.doctor.report import (
    Alike,
    Caption,
    Conversation,
    Dropped,
    Finding,
    Picture,
    Report,
    Shown,
    Suspect,
)
from monitoring.doctor import page

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
PIXEL = "data:image/webp;base64,AAAA"


class Read(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def report(*findings: Finding) -> Report:
    shown = Shown(EVIL, {"prompt": EVIL, "answer": "عاصمة فرنسا"}, PIXEL)
    return Report(
        "text", EVIL, EVIL, False, [EVIL], list(findings),
        [Dropped("clean", EVIL, 3, "about 30", EVIL, EVIL)],
        [histogram("Length", "tokens", [1, 2, 3, 900], 50)],
        [Alike(EVIL, [shown, shown])], [Suspect(3.0, [EVIL], shown)],
        [Conversation(EVIL, EVIL, [[("read", EVIL), ("learnt", "東京です"), ("cut", EVIL)]])],
        [Picture(EVIL, PIXEL, PIXEL, EVIL, [Caption(EVIL, EVIL, EVIL)])], {"Latin": 3, EVIL: 1},
    )  # fmt: skip


def test_users_text_is_text_and_nothing_is_fetched() -> None:
    text = page(report(Finding("look", EVIL, EVIL, 3, (EVIL,))), [EVIL], 0.0)
    read = Read(text)
    assert "script" not in {tag for tag, _ in read.tags}
    sources = [value for _, attributes in read.tags for name, value in attributes.items() if name in ("src", "href")]
    assert sources and set(sources) == {PIXEL}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert "url(" not in text and "@import" not in text and "http" not in text
    assert sum(EVIL in words for words in read.words) >= 15
    users = [attributes for _, attributes in read.tags if "user" in (attributes.get("class") or "").split()]
    assert users and all(attributes.get("dir") == "auto" for attributes in users)


@pytest.mark.parametrize(
    ("finding", "first"),
    [
        (Finding("ends", "split would end: too few", "add samples"), "Do not train on this yet"),
        (Finding("look", "one is odd"), "It can be trained on"),
        (Finding("note", "5 are animations"), "Nothing is wrong"),
    ],
)
def test_the_first_words_say_whether_to_train_and_what_to_do(finding: Finding, first: str) -> None:
    body = page(report(finding), [], 0.0).partition("<h1>")[2]
    heading, _, rest = body.partition("</h1>")
    assert first in heading
    assert ("add samples" in rest.partition('<p class="note">')[0]) == (finding.severity == "ends")
