"""What a file of rows is, told by its bytes (CSV by its name), and its bytes unpacked and in UTF-8.

Knows nothing of how rows are read out of them.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

import pyarrow as pa

from components.stage import StageError

SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"})  # of a folder's files that are read
# Text shrinks by a factor of 3 to 20. What unpacks to more than both of these is made to fill memory or disk.
MOST_UNPACKED, MOST_TIMES = 2**30, 200
CHUNK = 2**20  # bytes read at once

_PACKED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zstd"})
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# UTF-32's little-endian mark begins with UTF-16's.
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV",
    b"SQLite format 3\0": "an SQLite database: export the table as CSV",
    b"ARROW1": "an Arrow file: write it as Parquet",
    b"\xff\xff\xff\xff": "Arrow, as `save_to_disk` of datasets writes it: use `to_parquet`",
    b"%PDF": "a PDF",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive: unpack it",
}
_TAR = slice(257, 262)
_PARQUET = b"PAR1"
_ARRAY = re.compile(r"\s*\[\s*(\{|\]|$)")
# What reading a broken file raises.
DAMAGE = (EOFError, OSError, UnicodeError, lzma.LZMAError, zlib.error, pa.ArrowException)


class Format(NamedTuple):
    """What a file is: the kind of its rows, its compression and its encoding, empty where it is UTF-8 or binary."""

    kind: str
    compression: str = ""
    encoding: str = ""

    def __str__(self) -> str:
        encoding = f" in {self.encoding.upper()}" if self.encoding else ""
        return f"{self.kind}{encoding}{f', {self.compression}' if self.compression else ''}"


def holds_rows(name: PurePath) -> bool:
    """Whether a file of a folder holds rows, by its name: `a.jsonl` and `a.jsonl.gz` do, `a.jsonl.dvc` does not."""
    suffixes = [suffix.lower() for suffix in name.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def recognise(path: Path) -> Format:
    """The format of a file; raises `StageError`, which says what it is instead, where it holds no rows to read here."""
    head = _head(path, "")
    compression = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), "")
    try:
        head = _head(path, compression) if compression else head
    except DAMAGE as error:
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
    encoding = marked(head)
    if not encoding and b"\0" in head[:4]:
        raise StageError(f"{path}: it is binary, or UTF-16 without a byte-order mark; save it as UTF-8")
    text = head.decode(encoding or "utf-8-sig", errors="replace").lstrip()
    if _ARRAY.match(text):
        return Format("JSON array", compression, encoding)
    csv_like = bool({".csv", ".tsv"} & set(names)) and not text.startswith("{")
    return Format("CSV" if csv_like else "JSON lines", compression, encoding)


def _head(path: Path, compression: str) -> bytes:
    with opened(path, Format("", compression)) as file:
        return file.read(4096)


def marked(head: bytes) -> str:
    """The encoding that a byte-order mark of UTF-16 or UTF-32 gives; empty for none."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")


def opened(path: Path, format: Format) -> IO[bytes]:
    """The bytes of a file, unpacked and in UTF-8."""
    openers: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    if not format.compression and not format.encoding:
        return path.open("rb")
    if format.compression == "zstd":
        file = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    else:
        file = openers.get(format.compression, open)(path, "rb")
    return io.BufferedReader(_Plain(file, path, format.encoding), CHUNK)


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
            chunk = self._file.read(CHUNK)
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
