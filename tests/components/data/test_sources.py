from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from components.data.sample import Reject, Sample
from components.data.sources import image_folder, pairs
from components.stage import StageError


def folder_of(path: Path, *lines: object) -> Path:
    path.mkdir(exist_ok=True)
    (path / "a.png").write_bytes(b"bytes of a picture")
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (path / "metadata.jsonl").write_bytes(b"\n".join(raw) + b"\n")
    return path


def reason(record: Sample | Reject) -> str:
    return record.reason if isinstance(record, Reject) else ""


def test_a_row_becomes_a_sample_with_its_further_fields(tmp_path: Path) -> None:
    row = {"file_name": "a.png", "text": "a red apple", "label": "fruit", "licence": "CC0"}
    (sample,) = image_folder(folder_of(tmp_path / "set", row))
    assert isinstance(sample, Sample)
    assert (sample.text, sample.label, sample.image) == ("a red apple", "fruit", b"bytes of a picture")
    assert sample.meta == {"file_name": "a.png", "licence": "CC0"}
    assert sample.source == "metadata.jsonl:1"


def test_a_sample_keeps_its_id_when_the_rows_move(tmp_path: Path) -> None:
    one, two = ({"file_name": "a.png", "text": text} for text in ("one", "two"))
    first = {s.text: s.id for s in image_folder(folder_of(tmp_path / "x", one, two)) if isinstance(s, Sample)}
    moved = {s.text: s.id for s in image_folder(folder_of(tmp_path / "y", two, one)) if isinstance(s, Sample)}
    assert first == moved and len(set(first.values())) == 2


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"file_name": "b.png", "text": "x"}, "does not exist"),
        ({"file_name": "../outside.png", "text": "x"}, "points outside the folder"),
        ({"file_name": "link.png", "text": "x"}, "points outside the folder"),
        ({"file_name": "linked/outside.png", "text": "x"}, "points outside the folder"),
        ({"file_name": ".", "text": "x"}, "is not a file"),
        ({"file_name": "a\0.png", "text": "x"}, "cannot be read"),
        ({"file_name": "n" * 300 + ".png", "text": "x"}, "cannot be read"),
        ({"text": "x"}, "'file_name' is missing"),
        ({"file_name": "a.png"}, "'text' is missing"),
        ({"file_name": "a.png", "text": "x", "concept": ["fox"]}, "'concept' is list"),
        ({"file_name": "a.png", "text": 5}, "'text' is int"),
        ({"file_name": ["a.png"], "text": "x"}, "'file_name' is list"),
        (["a.png", "x"], "not a JSON object"),
        (b'{"file_name": "a.png", "text": ', "not JSON"),
        (b'{"file_name": "a.png", "text": "x", "score": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"file_name": "a.png", "text": "caf\xe9"}', "not UTF-8: byte 35 is 0xe9"),
        (b'{"file_name": "a.png", "text": "\\ud800"}', "surrogate"),
    ],
)
def test_a_bad_row_is_rejected_beside_its_reason_and_the_others_stay(
    row: object, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "outside.png").write_bytes(b"secret")
    folder = folder_of(tmp_path / "set", row, {"file_name": "a.png", "text": "good"})
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "linked").symlink_to(tmp_path)
    bad, good = image_folder(folder)
    assert isinstance(bad, Reject) and expected in bad.reason
    assert bad.sample.source == "metadata.jsonl:1" and bad.sample.image is None
    assert isinstance(good, Sample) and good.text == "good"


def test_an_absolute_path_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(b"secret")
    (bad,) = image_folder(folder_of(tmp_path / "set", {"file_name": str(tmp_path / "outside.png"), "text": "x"}))
    assert "points outside the folder" in reason(bad)


def test_a_huge_file_is_rejected_unread(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", {"file_name": "disk.img", "text": "x"})
    with (folder / "disk.img").open("wb") as file:
        file.truncate(2**40)
    (bad,) = image_folder(folder)
    assert "larger than" in reason(bad)


def test_a_folder_without_metadata_or_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no metadata\.jsonl; it holds .*; write metadata\.jsonl: one JSON object"):
        list(image_folder(tmp_path))
    with pytest.raises(StageError, match="is not a folder"):
        list(image_folder(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["metadata.json1", "a.png"], "it holds metadata.json1, not read, and 1 picture; write metadata.jsonl"),
        (["metadata.csv", "a.png", "b.jpg"], "metadata.csv, not read, and 2 pictures"),
        (["a.png", "a.txt", "b.webp", "b.txt"], "2 pictures and 2 files named after them, as a.txt, not read"),
        (["cats/a.png", "dogs/b.png"], "it holds 2 folders, not looked into"),
        (["notes.md"], "it holds 1 file and no picture"),
        ([], "it holds 0 files and no picture"),
    ],
)
def test_38_a_folder_without_captions_is_told_what_it_holds(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(StageError, match=re.escape(words)):
        list(image_folder(tmp_path))


def test_pairs_are_read_and_bad_lines_rejected(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"prompt": "something sweet", "completion": "cake", "label": "cake", "licence": "CC0"}\r\n'
        b"\n{broken\n"
        b'{"prompt": "x"}\n{"prompt": "\xff", "completion": "y"}\n{"prompt": "x", "completion": null}\n'
    )
    good, *bad = pairs(file)
    assert isinstance(good, Sample)
    assert (good.text, good.label) == ("something sweet", "cake")
    assert good.meta == {"completion": "cake", "licence": "CC0"}
    assert [reason(b).split(":")[0] for b in bad] == [
        "not JSON",
        "field 'completion' is missing",
        "not UTF-8",
        "field 'completion' is NoneType, not text",
    ]
    assert [b.sample.source for b in bad if isinstance(b, Reject)] == [f"pairs.jsonl:{n}" for n in (3, 4, 5, 6)]


def test_a_field_that_stages_write_themselves_is_rejected_by_name(tmp_path: Path) -> None:
    """`clean` took it for what it writes there itself, and ended in a traceback."""
    said = [{"role": "user", "content": "a fox"}, {"role": "assistant", "content": "fox: animal"}]
    rows = [
        {"prompt": "x", "completion": "y", "history": [["a", "b"]]},
        {"prompt": "x", "completion": "y", "split_group": 3},
        {"messages": said, "history": "none"},
        {"messages": said, "completion": "wolf: animal"},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bad = list(pairs(tmp_path / "pairs.jsonl"))
    assert [each.slug for each in bad if isinstance(each, Reject)] == ["reserved_field"] * 4
    assert [re.findall("'(.*)'", reason(each)) for each in bad] == [
        ["history"],
        ["split_group"],
        ["history"],
        ["completion"],
    ]


def test_a_missing_jsonl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"prepare\.text\.path"):
        list(pairs(tmp_path / "nowhere.jsonl"))


def said(*messages: tuple[str, str] | tuple[str, str, object]) -> dict[str, object]:
    rows = [dict(zip(("role", "content", "weight"), message, strict=False)) for message in messages]
    return {"messages": rows}


def test_answers_of_weight_0_are_read_and_not_taught(tmp_path: Path) -> None:
    rows = [
        said(("user", "a"), ("assistant", "b", 0), ("user", "c"), ("assistant", "d", 1)),
        said(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d", 0)),
        said(("user", "a"), ("assistant", "b", 0)),
        said(("user", "a", 1), ("assistant", "b")),
        said(("user", "a"), ("assistant", "b", 0.5)),
        said(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d", 0)) | {"rejected": "e"},
    ]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second, *rejects = pairs(tmp_path / "talk.jsonl")
    assert isinstance(first, Sample) and isinstance(second, Sample)
    assert (first.text, first.meta["completion"]) == ("c", "d")
    assert [message.get("weight") for message in first.meta["history"]] == [None, 0]
    assert (second.text, second.meta) == ("a", {"completion": "b"})  # what follows would teach nothing
    reasons = [reject.reason for reject in rejects if isinstance(reject, Reject)]
    assert reasons[0] == "every answer has the weight 0: there is none to learn"
    assert reasons[1].startswith("message 1 has the weight 1") and reasons[2].startswith("message 2 has the weight 0.5")
    assert reasons[3] == "field 'rejected' stands beside an answer with the weight 0"
