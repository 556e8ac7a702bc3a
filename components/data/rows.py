"""Files of rows, whatever their format: each row beside its place, in bounded memory.

Compression, UTF-16, JSON arrays and Parquet are recognised by their bytes, CSV by its name. A row that cannot be read
becomes a reject; a file that is not what can be read here raises `StageError`. Knows nothing of what rows mean.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.sample import Reject, Sample
from components.stage import StageError

Row = dict[str, Any]
Placed = tuple[str, Row | Reject]  # a row's file and number, and what could be read there

LONGEST = 2**26  # bytes of a line, a cell or an element of an array
# Text shrinks by a factor of 3 to 20. What unpacks to more than both of these is made to fill memory or disk.
MOST_UNPACKED, MOST_TIMES = 2**30, 200
SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"})  # of a folder's files that are read
_CHUNK = 2**20
_PARQUET_ROWS = 256  # decoded at once
_JUDGED = 100  # rows of a file from which a fault that all share is the file's

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# UTF-32's little-endian mark begins with UTF-16's.
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV",
    b"SQLite format 3\0": "an SQLite database: export the table as CSV",
    b"ARROW1": "an Arrow file: write it as Parquet",
    b"%PDF": "a PDF",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive: unpack it",
}
_TAR = slice(257, 262)
_PARQUET = b"PAR1"
_ARRAY = re.compile(r"\s*\[\s*(\{|\]|$)")
_BETWEEN = frozenset(" \t\r\n,")
_DAMAGE = (EOFError, OSError, UnicodeError, lzma.LZMAError, zlib.error, pa.ArrowException)


class Format(NamedTuple):
    """What a file is: the kind of its rows, its compression and its encoding, empty where it is UTF-8 or binary."""

    kind: str
    compression: str = ""
    encoding: str = ""

    def __str__(self) -> str:
        encoding = f" in {self.encoding.upper()}" if self.encoding else ""
        return f"{self.kind}{encoding}{f', {self.compression}' if self.compression else ''}"


def rows(path: Path, format: Format) -> Iterator[Placed]:
    """Every row of a file that is not blank; raises `StageError` where it cannot be read to its end."""
    place = path.name
    try:
        for place, row in _READERS[format.kind](path, format):
            yield place, row
    except _DAMAGE as error:
        raise StageError(f"{path}: damaged or cut off after {place}: {error or type(error).__name__}") from error


def recognise(path: Path) -> Format:
    """The format of a file; raises `StageError`, which says what it is instead, where it holds no rows to read here."""
    head = _head(path, "")
    compression = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), "")
    try:
        head = _head(path, compression) if compression else head
    except _DAMAGE as error:
        raise StageError(f"{path}: damaged {compression} file: {error or type(error).__name__}") from error
    foreign = next((words for magic, words in _FOREIGN.items() if head.startswith(magic)), "")
    foreign = "a tar archive: unpack it" if head[_TAR] == b"ustar" else foreign
    if foreign:
        raise StageError(f"{path}: it is {foreign}")
    names = [suffix.lower() for suffix in path.suffixes]
    if head.startswith(_PARQUET) and not compression:
        return Format("Parquet")
    if head.startswith(_PARQUET) or ".parquet" in names[-1:]:
        fault = "it is Parquet inside of another compression: unpack it" if compression else "it is no Parquet file"
        raise StageError(f"{path}: {fault}; it begins with {head[:20]!r}")
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")
    if not encoding and b"\0" in head[:4]:
        raise StageError(f"{path}: it is binary, or UTF-16 without a byte-order mark; save it as UTF-8")
    text = head.decode(encoding or "utf-8-sig", errors="replace").lstrip()
    if _ARRAY.match(text):
        return Format("JSON array", compression, encoding)
    csv_like = bool({".csv", ".tsv"} & set(names)) and not text.startswith("{")
    return Format("CSV" if csv_like else "JSON lines", compression, encoding)


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


def _head(path: Path, compression: str) -> bytes:
    with _opened(path, Format("", compression)) as file:
        return file.read(4096)


def _opened(path: Path, format: Format) -> IO[bytes]:
    """The bytes of a file, unpacked and in UTF-8."""
    openers: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    if not format.compression and not format.encoding:
        return path.open("rb")
    if format.compression == "zstd":
        file = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    else:
        file = openers.get(format.compression, open)(path, "rb")
    return io.BufferedReader(_Plain(file, path, format.encoding), _CHUNK)


class _Plain(io.RawIOBase):
    """What a file unpacks to, in UTF-8, as far as that is a sane multiple of its size."""

    def __init__(self, file: IO[bytes], path: Path, encoding: str) -> None:
        self._file, self._path, self._rest = file, path, b""
        self._decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
        self._left = max(MOST_UNPACKED, MOST_TIMES * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = self._file.read(_CHUNK)
            self._left -= len(chunk)
            if self._left < 0:
                raise StageError(f"{self._path}: it unpacks to more than {MOST_TIMES} times its size: not read further")
            self._rest = self._decoder.decode(chunk, not chunk).encode() if self._decoder else chunk
            if not chunk:
                break
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _json_lines(path: Path, format: Format) -> Iterator[Placed]:
    with _opened(path, format) as file:
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            place = f"{path.name}:{number}"
            if len(line) > LONGEST and not line.endswith(b"\n"):
                yield place, _unread(place, line, "long_line", f"a line longer than {LONGEST} bytes")
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST)
            elif line.strip():
                yield place, json_object(line, place)


def json_object(line: bytes, place: str) -> Row | Reject:
    """A JSON object from its bytes, or a reject that holds what could be read of it."""
    try:
        document = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return _unread(place, line, "not_utf8", f"not UTF-8: byte {error.start} is 0x{line[error.start]:02x}")
    except (ValueError, RecursionError) as error:
        return _unread(place, line, "not_json", f"not JSON: {error}")
    return _checked(document, place)


def _checked(document: Any, place: str) -> Row | Reject:
    """An object that can be written down again; half a surrogate pair is JSON, but no text."""
    text = json.dumps(document, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        broken = ord(text[error.start])
        if 0xDC80 <= broken <= 0xDCFF:  # as `surrogateescape` keeps a byte that is no UTF-8
            return _unread(
                place, text.encode(errors="replace"), "not_utf8", f"not UTF-8: a byte is 0x{broken & 255:02x}"
            )
        return _unread(place, text.encode(errors="replace"), "not_json", f"not JSON: {error}")
    if not isinstance(document, dict):
        return _unread(place, text.encode(), "not_json", "not a JSON object")
    return document


def _json_array(path: Path, format: Format) -> Iterator[Placed]:
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    with _opened(path, format) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape")
        buffer, number = text.read(_CHUNK), 0
        at = buffer.index("[") + 1
        while True:
            while buffer[at : at + 1] in _BETWEEN and at < len(buffer):
                at += 1
            if buffer[at : at + 1] == "]":
                if (buffer[at + 1 :] + text.read(_CHUNK)).strip():
                    raise StageError(f"{path}: something follows the array after element {number}")
                return
            try:
                document, at = decoder.raw_decode(buffer, at)
            except (ValueError, RecursionError) as error:
                more = "" if len(buffer) - at > LONGEST else text.read(max(_CHUNK, len(buffer) - at))
                if not more:
                    fault = f"longer than {LONGEST} bytes, or not JSON: {error}"
                    raise StageError(f"{path}: element {number + 1} is cut off, {fault}") from error
                buffer, at = buffer[at:] + more, 0
                continue
            number += 1
            yield f"{path.name}:{number}", _checked(document, f"{path.name}:{number}")


def _csv(path: Path, format: Format) -> Iterator[Placed]:
    csv.field_size_limit(LONGEST)
    with _opened(path, format) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        first = text.readline(LONGEST)
        delimiter = max("\t;,", key=first.count)
        reader = csv.reader(
            _lines(path, chain([first], iter(lambda: text.readline(LONGEST), ""))), delimiter=delimiter, strict=True
        )
        header = [name.strip() for name in next(reader, [])]
        if twice := {name for name in header if header.count(name) > 1}:
            raise StageError(f"{path}: the header names {', '.join(sorted(twice))} more than once: rename the columns")
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
            if cells:
                yield place, _record(header, cells, place)


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
    return _checked(row, place)


def _parquet(path: Path, format: Format) -> Iterator[Placed]:
    """Rows without their nulls: a table has no other way to leave a field out."""
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_PARQUET_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}:{number}", _plain(row, f"{path.name}:{number}")


def _plain(row: Row, place: str) -> Row | Reject:
    """A row of a table as JSON has it: times and decimals as text."""
    present = {name: value for name, value in row.items() if value is not None}
    try:
        document = json.loads(json.dumps(present, default=_as_text, allow_nan=False, ensure_ascii=False))
    except (TypeError, ValueError) as error:
        return _unread(place, b"", "wrong_field", str(error))
    return _checked(document, place)


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        raise TypeError("a column holds bytes, and text is read: leave the column out")
    return str(value)


def _unread(place: str, data: bytes, slug: str, reason: str) -> Reject:
    text = data[:_CHUNK].decode("utf-8", errors="replace").strip()
    return Reject(Sample(id=place, text=text, source=place), slug, reason)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_READERS: dict[str, Callable[[Path, Format], Iterator[Placed]]] = {
    "JSON lines": _json_lines,
    "JSON array": _json_array,
    "CSV": _csv,
    "Parquet": _parquet,
}
