"""The rows of a file, whatever its format, each beside its place, in bounded memory.

A row that cannot be read becomes a reject; a file that cannot be read to its end raises `StageError`. Knows nothing of
what rows mean.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Hashable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.formats import CHUNK, DAMAGE, Format, opened
from components.data.sample import Reject, Sample
from components.stage import StageError

Row = dict[str, Any]
Placed = tuple[str, Row | Reject]  # a row's file and number, and what could be read there
Wanted = Callable[[str, Hashable], bool]  # by a row's place and what stands there, before it is read

LONGEST = 2**26  # bytes of a line, a cell or an element of an array
_PARQUET_ROWS = 256  # decoded at once
_JUDGED = 100  # rows of a file from which a fault that all share is the file's

_DEEPEST = 100  # lists and objects in each other: no row needs more, and writing ten times as many fails
_BETWEEN = frozenset(" \t\r\n,")


def every(place: str, content: Hashable) -> bool:
    return True


def rows(path: Path, format: Format, wanted: Wanted = every) -> Iterator[Placed]:
    """The `wanted` rows of a file that are not blank; raises `StageError` where it cannot be read to its end."""
    place = path.name
    try:
        for place, row in _READERS[format.kind](path, format, wanted):
            yield place, row
    except DAMAGE as error:
        raise StageError(f"{path}: damaged or cut off after {place}: {error or type(error).__name__}") from error


def judged(path: Path, records: Iterator[Sample | Reject]) -> Iterator[Sample | Reject]:
    """`records`; where the first ones all have the same fault it is the file's, and raises `StageError`."""
    first: list[Sample | Reject] = []
    for record in records:
        first.append(record)
        if not (fault := _fault_of_file(record)) or fault != _fault_of_file(first[0]):
            yield from chain(first, records)
            return
        if len(first) == _JUDGED:
            break
    if first and isinstance(first[0], Reject):
        rows = f"its first {len(first)} rows are" if len(first) > 1 else "its first row is"
        raise StageError(f"{path}: {rows} rejected, {'each ' * (len(first) > 1)}as in {_told(first[0])}")


def _fault_of_file(record: Sample | Reject) -> str:
    """A fault by which records are compared; empty where it can only be the row's own."""
    if not isinstance(record, Reject) or record.slug not in ("not_json", "not_utf8", "wrong_field"):
        return ""
    return record.reason if record.slug == "wrong_field" else record.slug


def _told(reject: Reject) -> str:
    """A reject that speaks for a file: what it may be instead where it is no JSON."""
    told, begin = f"{reject.sample.source}: {reject.reason}", reject.sample.text[:60]
    if reject.slug != "not_json":
        return told
    if begin in ("{", "["):
        return f"{told}; it is JSON over several lines: write an array of objects, or one object a line"
    return f"{told}; it begins with {begin!r}: a file of CSV is named .csv, one of tabs .tsv"


def _json_lines(path: Path, format: Format, wanted: Wanted) -> Iterator[Placed]:
    with opened(path, format) as file:
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            place = f"{path.name}:{number}"
            if len(line) > LONGEST and not line.endswith(b"\n"):
                if wanted(place, line):
                    yield place, _unread(place, line, "long_line", f"a line longer than {LONGEST} bytes")
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST)
            elif line.strip() and wanted(place, line):
                yield place, json_object(line, place)


def json_object(line: bytes, place: str) -> Row | Reject:
    """A JSON object from its bytes, or a reject that holds what could be read of it."""
    pairs = _Pairs()
    try:
        document = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant, object_pairs_hook=pairs)
    except UnicodeDecodeError as error:
        return _unread(place, line, "not_utf8", f"not UTF-8: byte {error.start} is 0x{line[error.start]:02x}")
    except (ValueError, RecursionError) as error:
        return _unread(place, line, "not_json", f"not JSON: {error}")
    return _doubled(place, line, pairs.twice) if pairs.twice else checked(document, place)


class _Pairs:
    """Makes objects of their pairs and remembers a key that stands twice, of which JSON's reader keeps the last."""

    twice = ""

    def __call__(self, pairs: list[tuple[str, Any]]) -> Row:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            self.twice = next(name for name in names if names.count(name) > 1)
        return row


def _doubled(place: str, data: bytes, name: str) -> Reject:
    return _unread(place, data, "doubled_key", f"the key {name!r} stands twice in one object: leave one of them")


def checked(document: Any, place: str) -> Row | Reject:
    """An object that can be written down again; half a surrogate pair is JSON, but no text."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        return _unread(place, b"", "not_json", f"not JSON: {error}")
    data = text.encode(errors="replace")
    if sum(map(text.count, "[{")) > _DEEPEST and _depth(document) > _DEEPEST:
        return _unread(place, data, "not_json", f"it is nested more than {_DEEPEST} deep")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        broken = ord(text[error.start])
        if 0xDC80 <= broken <= 0xDCFF:  # as `surrogateescape` keeps a byte that is no UTF-8
            return _unread(place, data, "not_utf8", f"not UTF-8: a byte is 0x{broken & 255:02x}")
        return _unread(place, data, "not_json", f"not JSON: {error}")
    return document if isinstance(document, dict) else _unread(place, data, "not_json", "not a JSON object")


def _depth(document: Any) -> int:
    """How deep lists and objects stand in each other, as far as one more than `_DEEPEST`."""
    level, depth = [document], 0
    while depth <= _DEEPEST:
        level = [part for part in level if isinstance(part, dict | list)]
        if not level:
            break
        level = [part for parts in level for part in (parts.values() if isinstance(parts, dict) else parts)]
        depth += 1
    return depth


def _json_array(path: Path, format: Format, wanted: Wanted) -> Iterator[Placed]:
    pairs = _Pairs()
    decoder = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=pairs)
    with opened(path, format) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape")
        buffer, number = text.read(CHUNK), 0
        at = buffer.index("[") + 1
        while True:
            while buffer[at : at + 1] in _BETWEEN and at < len(buffer):
                at += 1
            if buffer[at : at + 1] == "]":
                if (buffer[at + 1 :] + text.read(CHUNK)).strip():
                    raise StageError(f"{path}: something follows the array after element {number}")
                return
            pairs.twice, begin = "", at
            try:
                document, at = decoder.raw_decode(buffer, at)
            except (ValueError, RecursionError) as error:
                more = "" if len(buffer) - at > LONGEST else text.read(max(CHUNK, len(buffer) - at))
                if not more:
                    fault = f"longer than {LONGEST} bytes, or not JSON: {error}"
                    raise StageError(f"{path}: element {number + 1} is cut off, {fault}") from error
                buffer, at = buffer[at:] + more, 0
                continue
            number += 1
            place = f"{path.name}:{number}"
            if not wanted(place, buffer[begin:at]):
                continue
            element = buffer[begin:at].encode(errors="replace") if pairs.twice else b""
            yield place, _doubled(place, element, pairs.twice) if pairs.twice else checked(document, place)


def _csv(path: Path, format: Format, wanted: Wanted) -> Iterator[Placed]:
    csv.field_size_limit(LONGEST)
    with opened(path, format) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        first = text.readline(LONGEST)
        delimiter = max("\t;,", key=first.count)
        reader = csv.reader(
            _lines(path, chain([first], iter(lambda: text.readline(LONGEST), ""))), delimiter=delimiter, strict=True
        )
        try:
            header = [name.strip() for name in next(reader, [])]
        except csv.Error as error:
            raise StageError(f"{path}: its header is no CSV: {error}") from error
        _refuse_twice(path, header)
        while True:
            place = f"{path.name}:{reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if not str(error).startswith("'"):  # all but characters after a closing quote end in the wrong row
                    raise StageError(f"{path}: from {place} on it is no CSV: {error}; a quote is not closed") from error
                yield place, _unread(place, b"", "not_csv", f"not CSV: {error}")
                continue
            if cells and wanted(place, tuple(cells)):
                yield place, _record(header, cells, place)


def _refuse_twice(path: Path, names: list[str]) -> None:
    if twice := {name for name in names if names.count(name) > 1}:
        raise StageError(f"{path}: the header names {', '.join(sorted(twice))} more than once: rename the columns")


def _lines(path: Path, lines: Iterator[str]) -> Iterator[str]:
    """Lines with their ends, none of them in parts: a part would be taken for a row."""
    for number, line in enumerate(lines, start=1):
        if len(line) >= LONGEST and not line.endswith(("\n", "\r")):
            raise StageError(f"{path}:{number}: a line longer than {LONGEST} characters")
        yield line


def _record(header: list[str], cells: list[str], place: str) -> Row | Reject:
    row = dict(zip(header, cells, strict=False))
    if [cell.strip() for cell in cells] == header:
        return _unread(
            place, repr(cells).encode(), "repeated_header", "it is the header again, as between joined files"
        )
    if len(cells) != len(header):
        return _unread(
            place, repr(cells).encode(), "not_csv", f"it has {len(cells)} cells, and the header {len(header)}"
        )
    return checked(row, place)


def _parquet(path: Path, format: Format, wanted: Wanted) -> Iterator[Placed]:
    """Rows without their nulls: a table has no other way to leave a field out."""
    number = 0
    with pq.ParquetFile(path) as file:
        _refuse_twice(path, file.schema_arrow.names)
        for batch in file.iter_batches(_PARQUET_ROWS):
            for row in _decoded(batch):
                number += 1
                place = f"{path.name}:{number}"
                if wanted(place, str(row)):
                    yield place, _plain(row, place)


def _decoded(batch: pa.RecordBatch) -> list[Row | pa.RecordBatch]:
    """The rows of a batch; where one cannot be decoded, each still encoded."""
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError):
        return [batch.slice(at, 1) for at in range(batch.num_rows)]


def _plain(row: Row | pa.RecordBatch, place: str) -> Row | Reject:
    """A row of a table as JSON has it: times and decimals as text."""
    try:
        (row,) = row.to_pylist() if isinstance(row, pa.RecordBatch) else [row]
        present = {name: value for name, value in row.items() if value is not None}
        document = json.loads(json.dumps(present, default=_as_text, allow_nan=False, ensure_ascii=False))
    except (TypeError, ValueError, OverflowError) as error:
        return _unread(place, b"", "wrong_field", f"{_unwritable(row)}{error}")
    return checked(document, place)


def _unwritable(row: Row | pa.RecordBatch) -> str:
    """Names the first column of a row that is no JSON."""
    names = row.schema.names if isinstance(row, pa.RecordBatch) else list(row)
    for name in names:
        try:
            value = row.column(name)[0].as_py() if isinstance(row, pa.RecordBatch) else row[name]
            json.dumps(value, default=_as_text, allow_nan=False)
        except (TypeError, ValueError, OverflowError):
            return f"column {name!r}: "
    return ""


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        raise TypeError("it holds bytes: write pictures as files, and leave other bytes out")
    return str(value)


def _unread(place: str, data: bytes, slug: str, reason: str) -> Reject:
    text = data[:CHUNK].decode("utf-8", errors="replace").strip()
    return Reject(Sample(id=place, text=text, source=place), slug, reason)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_READERS: dict[str, Callable[[Path, Format, Wanted], Iterator[Placed]]] = {
    "JSON lines": _json_lines,
    "JSON array": _json_array,
    "CSV": _csv,
    "Parquet": _parquet,
}
