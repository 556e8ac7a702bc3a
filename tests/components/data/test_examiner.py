from __future__ import annotations

import json
from typing import Any

from PIL import Image

from components.data.examiner import Examiner
from components.data.filters import Empty, UnreadablePicture
from components.data.personal_data import PersonalData
from components.data.picture import decode, encode_png, load
from components.data.text_rules import Boilerplate, Words

REDACT = PersonalData(action="redact")
TALK = {
    "completion": "Mail\n  ann@example.com",
    "rejected": "Mail\tann@example.com, or bob@example.com",
    "history": [{"role": "user", "content": "I am ann@example.com"}, {"role": "assistant", "content": "Hi  you"}],
    "tags": ["ann@example.com"],
}


def examined(text: str, meta: dict[str, Any], *chosen: Any) -> dict[str, Any]:
    return Examiner([Empty("text")], chosen).examine(text, None, None, json.dumps(meta))


def test_a_good_picture_becomes_a_bounded_png() -> None:
    wide = encode_png(Image.new("RGB", (1000, 400), "red"))
    row = Examiner([UnreadablePicture(max_pixels=10**6)]).examine("a red box", wide, None, "{}")
    assert (row["slug"], row["reason"]) == ("", "") and row["image"].startswith(b"\x89PNG")
    assert load(row["image"]).size == (512, 205)
    assert decode(row["image"], 8)[4, 4].tolist() == [255, 0, 0]


def test_what_is_redacted_is_gone_from_all_that_is_learnt_and_noted_and_the_rest_stays_byte_for_byte() -> None:
    row = examined("who?\n ann@example.com", TALK, REDACT)
    assert row["text"] == "who?\n [email]" and row["slug"] == ""
    assert json.loads(row["meta"]) == {
        "completion": "Mail\n  [email]",
        "rejected": "Mail\t[email], or [email]",
        "history": [{"role": "user", "content": "I am [email]"}, {"role": "assistant", "content": "Hi  you"}],
        "tags": ["ann@example.com"],
        "cleaning": {"redacted": {"email": 5}},
    }
    assert row["remarks"] == "samples have [email] in place of what was there"
    assert examined("who?\n [email]", json.loads(row["meta"]))["digest"] == row["digest"]


def test_a_sample_that_nothing_is_found_in_or_that_is_dropped_stays_as_it_came() -> None:
    meta = '{"completion":  "x",\n"b": 1}'
    row = Examiner([], [REDACT, Words(words=("y",), action="flag")]).examine("a  b", None, None, meta)
    assert (row["text"], row["meta"], row["slug"]) == ("a  b", meta, "")
    row = examined("bad ann@example.com", {"completion": "x"}, REDACT, Words(words=("bad",)))
    assert (row["text"], row["meta"]) == ("bad ann@example.com", '{"completion": "x"}')
    assert (row["slug"], row["reason"], row["remarks"]) == ("words", "it holds the word 'bad'", "")


def test_what_is_flagged_stays_and_filters_go_in_the_order_of_the_list() -> None:
    flag, drop = Words(words=("bad",), action="flag"), Boilerplate()
    row = examined("a bad word", {"completion": "x"}, flag, drop)
    assert row["slug"] == "" and row["remarks"] == "samples are flagged as words, and stay"
    assert json.loads(row["meta"]) == {"completion": "x", "cleaning": {"flagged": ["words"]}}
    hidden = Boilerplate(phrases=("[email]",))
    assert examined("ann@example.com", {}, REDACT, hidden)["slug"] == "boilerplate"
    assert examined("ann@example.com", {}, hidden, REDACT)["slug"] == ""
