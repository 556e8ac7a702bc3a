from __future__ import annotations

import bz2
import gzip
import json
import lzma
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data import formats, rows
from components.data.formats import recognise
from components.data.sample import Reject
from components.stage import StageError

ROWS = [{"prompt": f"ask {n}", "completion": f'def f():\n    return "é{n}"\n\n'} for n in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path) -> list[object]:
    return [row for _, row in rows.rows(path, recognise(path))]


def slugs(path: Path) -> list[str]:
    return [row.slug if isinstance(row, Reject) else "" for row in read(path)]


def gz(data: bytes) -> bytes:
    """The same bytes whenever it is called: they are in the names of tests, which all workers of pytest share."""
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


CSV = "prompt,completion\r\n" + "".join(
    '{},"{}"\r\n'.format(r["prompt"], r["completion"].replace('"', '""')) for r in ROWS
)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", LINES, "JSON lines"),
        ("a.txt", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"), "JSON lines"),
        ("a.json", json.dumps(ROWS, indent=1).encode(), "JSON array"),
        ("a.jsonl.gz", gz(LINES), "JSON lines, gzip"),
        ("a.jsonl", gz(LINES), "JSON lines, gzip"),
        ("a.jsonl.bz2", bz2.compress(LINES), "JSON lines, bzip2"),
        ("a.json.xz", lzma.compress(json.dumps(ROWS).encode()), "JSON array, xz"),
        ("a.csv.zst", zstd(CSV.encode()), "CSV, zstd"),
        ("a.jsonl", LINES.decode().encode("utf-16"), "JSON lines in UTF-16"),
        ("a.jsonl", b"\xfe\xff" + LINES.decode().encode("utf-16-be"), "JSON lines in UTF-16"),
        ("a.json.gz", gz(json.dumps(ROWS, indent=1).encode("utf-32")), "JSON array in UTF-32, gzip"),
        ("a.csv", b"\xef\xbb\xbf" + CSV.encode(), "CSV"),
        ("a.csv", CSV.encode("utf-16"), "CSV in UTF-16"),
        ("a.csv", CSV.replace(",", ";").encode(), "CSV"),
        ("a.tsv", CSV.replace(",", "\t").encode(), "CSV"),
    ],
)
def test_a_file_of_any_format_gives_the_same_rows_byte_for_byte(
    name: str, data: bytes, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path / name, data)
    assert str(recognise(path)) == words
    assert read(path) == ROWS


def test_parquet_is_read_with_its_nulls_left_out_and_its_times_as_text(tmp_path: Path) -> None:
    table = [{**row, "at": datetime(2026, 1, 2, tzinfo=UTC), "note": None} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [{**row, "at": "2026-01-02 00:00:00+00:00"} for row in ROWS]
    pq.write_table(pa.table({"prompt": ["x"], "photo": [b"abc"]}), tmp_path / "b.parquet")
    (bad,) = read(tmp_path / "b.parquet")
    assert isinstance(bad, Reject) and "column 'photo': it holds bytes" in bad.reason


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", b"PK\x03\x04" + bytes(99), "a.jsonl: it is a zip archive or a spreadsheet: unpack it"),
        ("a.tar", bytes(257) + b"ustar" + bytes(99), "it is a tar archive: unpack it"),
        ("a.tar.gz", gz(bytes(257) + b"ustar" + bytes(99)), "it is a tar archive: unpack it"),
        ("a.parquet", LINES, "it is no Parquet file"),
        ("a.parquet.gz", gz(b"PAR1" + bytes(99)), "Parquet inside of another compression"),
        ("a.jsonl", LINES.decode().encode("utf-16-le"), "UTF-16 without a byte-order mark"),
        ("a.jsonl.gz", gz(LINES * 9999)[:-9], "damaged or cut off after a.jsonl.gz:"),
        ("a.jsonl.zst", zstd(LINES * 9999)[:-9], "damaged"),
        ("a.jsonl.xz", lzma.compress(LINES)[:20], "damaged"),
        ("a.parquet", b"PAR1" + bytes(99), "damaged or cut off"),
        ("a.json", json.dumps(ROWS).encode()[:-9], "element 3 is cut off"),
        ("a.json", json.dumps(ROWS).encode() + LINES, "something follows the array"),
        ("a.csv", b'prompt,completion\na,b\nc,"d\ne,f\n', "from a.csv:3 on it is no CSV"),
        ("a.csv", b'"prompt"x,completion\n1,2\n', "its header is no CSV"),
        ("a.csv", b"prompt,prompt\n1,2\n", "the header names prompt more than once"),
    ],
)
def test_a_file_that_is_something_else_is_told_in_one_sentence(
    name: str, data: bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError) as caught:
        read(written(tmp_path / name, data))
    assert words in str(caught.value)


def test_a_line_beyond_the_limit_is_one_reject_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "LONGEST", 100)
    path = written(tmp_path / "a.jsonl", LINES + b"x" * 1000 + b"\n" + LINES)
    assert slugs(path) == ["", "", "", "long_line", "", "", ""]
    path = written(tmp_path / "a.csv", f"prompt,completion\na,{'x' * 101}\nb,c\n".encode())
    with pytest.raises(StageError, match=r"a\.csv:2: a line longer than 100 characters"):
        read(path)
    monkeypatch.setattr(rows, "CHUNK", 10)
    with pytest.raises(StageError, match="element 1 is cut off, longer than 100 bytes"):
        read(written(tmp_path / "a.json", json.dumps([{"prompt": "x" * 500}]).encode()))


def test_an_array_is_read_across_the_borders_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHUNK", 7)
    assert read(written(tmp_path / "a.json", json.dumps(ROWS, indent=2).encode())) == ROWS


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MOST_UNPACKED", 2**20)
    path = written(tmp_path / "a.jsonl.gz", gz(b'{"prompt": "' + bytes(2**23)))
    with pytest.raises(StageError, match="unpacks to more than 200 times its size"):
        read(path)


def test_mixed_encodings_and_ragged_rows_are_rejected_by_row(tmp_path: Path) -> None:
    table = b'prompt,completion\na,b\ncaf\xe9,c\nprompt,completion\nd\ne,"f"g\nh,"i\n\nj"\n'
    assert slugs(written(tmp_path / "a.csv", table)) == ["", "not_utf8", "repeated_header", "not_csv", "not_csv", ""]
    array = b'[{"a": "x"}, {"a": "caf\xe9"}, 5, {"a": "\\ud800"}, {"a": "y"}]'
    assert slugs(written(tmp_path / "a.json", array)) == ["", "not_utf8", "not_json", "not_json", ""]


@pytest.mark.parametrize("line", ['{"a": "x", "b": 1, "a": "y"}', '{"b": [{"c": {"a": 1, "a": 1}}]}'])
def test_an_object_with_a_key_twice_is_a_reject_that_names_it_and_keeps_the_text(line: str, tmp_path: Path) -> None:
    for name, text in (("a.jsonl", f'{line}\n{{"a": "z"}}\n'), ("a.json", f'[{line}, {{"a": "z"}}]')):
        bad, good = read(written(tmp_path / name, text.encode()))
        assert isinstance(bad, Reject) and bad.slug == "doubled_key" and good == {"a": "z"}
        assert bad.reason == "the key 'a' stands twice in one object: leave one of them" and bad.sample.text == line


def test_a_value_of_a_table_that_no_json_has_is_a_reject_that_names_its_column(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a", "b"], "score": [1.5, float("nan")]})
    pq.write_table(table, tmp_path / "a.parquet")
    good, bad = read(tmp_path / "a.parquet")
    assert good == {"prompt": "a", "score": 1.5}
    assert isinstance(bad, Reject) and bad.slug == "wrong_field" and bad.reason.startswith("column 'score': ")


def test_a_time_beyond_the_calendar_is_a_reject_and_the_next_row_is_read(tmp_path: Path) -> None:
    days = pa.array([4_000_000, 1], pa.date32())
    pq.write_table(pa.table({"prompt": ["a", "b"], "at": days}), tmp_path / "a.parquet")
    assert slugs(tmp_path / "a.parquet") == ["wrong_field", ""]
    bad, _ = read(tmp_path / "a.parquet")
    assert isinstance(bad, Reject) and bad.reason.startswith("column 'at': ")


def test_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([["a"], ["b"], ["c"]], names=["prompt", "completion", "prompt"]), tmp_path / "a.parquet")
    with pytest.raises(StageError, match="the header names prompt more than once"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("field", ["1e999", "[" * 300 + "]" * 300, "[" * 900 + "]" * 900])
def test_a_row_that_could_not_be_written_again_is_rejected(field: str, tmp_path: Path) -> None:
    line = '{"prompt": "a", "score": ' + field + "}"
    for name, text in (("a.jsonl", f"{line}\n{{}}\n"), ("a.json", f"[{line}, {{}}]")):
        assert slugs(written(tmp_path / name, text.encode())) == ["not_json", ""]
