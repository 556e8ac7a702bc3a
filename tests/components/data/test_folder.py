from __future__ import annotations

import csv
import gzip
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.folder import digests, image_folder
from components.data.sample import Reject, Sample
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
        ({"file_name": "a.png", "text": "x", "mask_file_name": "m.png"}, "mask_file_name 'm.png' does not exist"),
        ({"file_name": "a.png", "text": "x", "mask_file_name": "../outside.png"}, "points outside the folder"),
        ({"file_name": "a.png", "text": "x", "mask_file_name": ["a.png"]}, "'mask_file_name' is list"),
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
    bad, good, *unnamed = image_folder(folder)
    assert {each.slug for each in unnamed if isinstance(each, Reject)} <= {"no_row"}
    assert isinstance(bad, Reject) and expected in bad.reason
    assert bad.sample.source == "metadata.jsonl:1" and bad.sample.image is None
    assert isinstance(good, Sample) and good.text == "good"


def test_an_absolute_path_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(b"secret")
    bad, _ = image_folder(folder_of(tmp_path / "set", {"file_name": str(tmp_path / "outside.png"), "text": "x"}))
    assert "points outside the folder" in reason(bad)


def test_a_huge_file_is_rejected_unread(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", {"file_name": "disk.img", "text": "x"})
    with (folder / "disk.img").open("wb") as file:
        file.truncate(2**40)
    bad, _ = image_folder(folder)
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
        (["metadata.json1", "a.png", "a.txt"], "it holds metadata.json1, not read, and 1 picture"),
        (["a.png", "b.jpg", "c.txt"], "it holds 2 pictures; write metadata.jsonl"),
        (["cats/a.png", "cats/b.png"], "it holds 2 pictures, all in cats; write"),
        (["metadata.csv", "metadata.jsonl"], "it holds metadata.csv and metadata.jsonl: leave one of them in it"),
        (["train/metadata.csv", "train/a.png"], "train/metadata.csv describes a sub-folder: give "),
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


def test_a_mask_is_read_and_leaves_the_id_as_it_is(tmp_path: Path) -> None:
    row = {"file_name": "a.png", "text": "x"}
    folder = folder_of(tmp_path / "set", row, row | {"mask_file_name": "m.png"})
    (folder / "m.png").write_bytes(b"a mask")
    without, masked = image_folder(folder)
    assert isinstance(without, Sample) and isinstance(masked, Sample)
    assert (without.mask, masked.mask, masked.id) == (None, b"a mask", without.id)


def filled(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def captions(folder: Path, **options: Any) -> list[tuple[object, str, str]]:
    """File, caption and label of each sample."""
    kept = [record for record in image_folder(folder, **options) if isinstance(record, Sample)]
    return [(sample.meta["file_name"], sample.text, sample.label) for sample in kept]


def rejected(folder: Path) -> dict[str, str]:
    return {r.sample.source: r.slug for r in image_folder(folder) if isinstance(r, Reject)}


CSV = b'file_name,caption,label\na.png,"a red, round apple",fruit\nb.png,a dog,animal\n'


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.csv.gz", "metadata.json", "metadata.parquet"])
def test_metadata_of_any_format_is_read_and_the_pictures_that_it_leaves_out_are_named(
    name: str, tmp_path: Path
) -> None:
    table = list(csv.DictReader(CSV.decode().splitlines()))
    filled(tmp_path, {"a.png": b"a", "b.png": b"b", "more/c.jpg": b"c", ".hidden.png": b"d", "notes.md": b"e"})
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(table), tmp_path / name)
    else:
        texts = {"csv": CSV, "gz": gzip.compress(CSV), "json": json.dumps(table, indent=1).encode()}
        (tmp_path / name).write_bytes(texts[name.split(".")[-1]])
    assert captions(tmp_path) == [("a.png", "a red, round apple", "fruit"), ("b.png", "a dog", "animal")]
    assert rejected(tmp_path) == {"more/c.jpg": "no_row"}
    assert digests(tmp_path).keys() == {name}


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"file_name": "a.png", "text": ["one", "two"]}, ["one", "two"]),
        ({"image": "a.png", "captions": ["one", "two"]}, ["one", "two"]),
        ({"path": "./a.png", "caption": "one"}, ["one"]),
        ({"file_name": "a.png", "text": "one", "caption": "two"}, ["one"]),
    ],
)
def test_each_caption_of_a_picture_is_a_sample_of_it(row: dict[str, Any], texts: list[str], tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", row)
    kept = [record for record in image_folder(folder) if isinstance(record, Sample)]
    assert [sample.text for sample in kept] == texts and len({sample.id for sample in kept}) == len(texts)
    assert rejected(folder) == {}


def test_fields_of_other_names_are_read_as_params_say(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", {"picture": "a.png", "blip": "a fox"})
    with pytest.raises(StageError, match="'file_name' is missing"):
        list(image_folder(folder))
    assert captions(folder, fields={"file_name": "picture", "text": "blip"}) == [("a.png", "a fox", "")]


def test_captions_beside_pictures_are_read_and_what_is_alone_is_named(tmp_path: Path) -> None:
    files = {
        "a.png": b"a",
        "a.txt": "\ufeffa caf\u00e9\r\n".encode(),
        "b.JPG": b"b",
        "b.caption": "a dog".encode("utf-16"),
        "c/d.webp": b"c",
        "c/d.json": b'{\n "caption": "a cat",\n "licence": "CC0"\n}\n',
        "e.png": b"e",
        "f.txt": b"nobody",
        "g.png": b"g",
        "g.txt": b"caf\xe9",
        "h.png": b"h",
    }
    seen: Counter[str] = Counter()
    (tmp_path.parent / "secret.txt").write_text("secret")
    (tmp_path / "h.txt").symlink_to(tmp_path.parent / "secret.txt")
    found = captions(filled(tmp_path, files), seen=seen)
    assert found == [("a.png", "a caf\u00e9", ""), ("b.JPG", "a dog", ""), ("c/d.webp", "a cat", "c")]
    assert rejected(tmp_path) == {"e.png": "no_caption", "f.txt": "no_file", "g.txt": "not_utf8", "h.txt": "no_file"}
    assert seen["pictures with the caption beside them, in .txt"] == 1
    before = digests(tmp_path)
    (tmp_path / "a.txt").write_text("another")
    assert digests(tmp_path) != before and before.keys() == {tmp_path.name}


def test_sub_folders_are_labels_and_captions_where_nothing_else_is(tmp_path: Path) -> None:
    filled(tmp_path, {"red_apple/a.png": b"a", "dog/b.png": b"b"})
    assert captions(tmp_path) == [("dog/b.png", "dog", "dog"), ("red_apple/a.png", "red apple", "red_apple")]


def test_pictures_of_one_name_and_rows_of_one_id_stay_apart(tmp_path: Path) -> None:
    rows = [{"id": 1, "file_name": name, "text": "x"} for name in ("a.png", "more/a.png")]
    folder = folder_of(tmp_path / "set", *rows)
    filled(folder, {"more/a.png": b"another"})
    kept = [record for record in image_folder(folder) if isinstance(record, Sample)]
    assert len({sample.id for sample in kept}) == 2


def test_metadata_that_is_something_else_is_one_sentence(tmp_path: Path) -> None:
    filled(tmp_path, {"a.png": b"a", "metadata.jsonl": CSV})
    with pytest.raises(StageError, match=r"metadata\.jsonl: its first 3 rows are rejected, .*is named \.csv"):
        list(image_folder(tmp_path))


def test_a_picture_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    folder = filled(tmp_path / "set", {"a.png": b"a", "a.txt": b"one", os.fsdecode(b"caf\xe9.png"): b"b"})
    with pytest.raises(StageError, match=r"caf.udce9\.png': the name is not UTF-8: rename it"):
        list(image_folder(folder))


def test_a_caption_in_json_is_no_misspelt_metadata(tmp_path: Path) -> None:
    folder = filled(tmp_path / "set", {"cat.png": b"a", "cat.json": b'{"caption": "a cat"}'})
    assert [text for _, text, _ in captions(folder)] == ["a cat"]


def test_what_a_folder_holds_and_nobody_reads_is_counted_and_named(tmp_path: Path) -> None:
    files = {"cats/a.png": b"a", "cats/a.txt": b"one", "cats/a.json": b'{"text": "two"}', "cats/b.mp4": b"b"}
    folder = filled(tmp_path / "set", files)
    filled(tmp_path / "other", {"c.png": b"c"})
    (folder / "dogs").symlink_to(tmp_path / "other")
    seen: Counter[str] = Counter()
    assert [text for _, text, _ in captions(folder, seen=seen)] == ["one"]
    assert [words for words, count in seen.items() if count == 1] == [
        "folders that are symbolic links, not followed, as dogs",
        "files that are not read, as cats/b.mp4",
        "captions that are not read, with another beside the same picture, as cats/a.json",
        "pictures with the caption beside them, in .txt",
    ]
    filled(folder, {"metadata.jsonl": b'{"file_name": "cats/a.png", "text": "three"}'})
    seen.clear()
    assert [text for _, text, _ in captions(folder, seen=seen)] == ["three"]
    assert seen["files that are not read, as cats/a.json"] == 3


def test_a_picture_that_a_row_names_by_its_whole_path_is_named(tmp_path: Path) -> None:
    folder = filled(tmp_path / "set", {"sub/a.png": b"a", "b.png": b"b"})
    names = (str(folder / "sub" / "a.png"), "sub/../b.png")
    rows = "".join(json.dumps({"file_name": name, "text": "x"}) + "\n" for name in names)
    filled(folder, {"metadata.jsonl": rows.encode()})
    assert len(captions(folder)) == 2 and rejected(folder) == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_captions_are_read_in_any_language_and_encoding_of_unicode(encoding: str, tmp_path: Path) -> None:
    text = "红苹果, яблоко, تفاحة"
    folder = filled(tmp_path / "set", {"an 苹果.png": b"a", "an 苹果.txt": f"{text}\n".encode(encoding)})
    assert captions(folder) == [("an 苹果.png", text, "")]
