"""The one record every data stage passes on, and its Parquet form. Knows nothing of where samples come from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.stage import StageError

SAMPLES = "samples.parquet"
REJECTS = "rejects/rejects.parquet"
SOURCES = "sources.json"
METADATA = "metadata.jsonl"  # of a user's folder of pictures
# The source of a pair that users' reactions or annotators taught (`components.learning`). As prefixes of ids all sort
# after every other source's, so that of two equal samples `clean` keeps the other, and with it its side of the split.
PREFERRED, REACTION, WRITTEN = LEARNED = ("preferred", "reaction", "written")
# A row group ends after so many rows or picture bytes, so that no stage holds a whole set of photographs.
_ROWS, _BYTES = 2_000, 2**26

SCHEMA = pa.schema(
    [
        pa.field("id", pa.large_string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("image", pa.large_binary()),
        pa.field("mask", pa.large_binary()),
        pa.field("label", pa.large_string(), nullable=False),
        pa.field("source", pa.large_string(), nullable=False),
        pa.field("split", pa.large_string(), nullable=False),
        pa.field("quality", pa.float64(), nullable=False),
        pa.field("meta", pa.large_string(), nullable=False),
    ]
)
LATER = ("mask",)  # files of earlier versions lack it
REJECT_SCHEMA = SCHEMA.append(pa.field("reason", pa.large_string(), nullable=False)).append(
    pa.field("slug", pa.large_string(), nullable=False)
)


@dataclass(frozen=True)
class Sample:
    """One sample: `text` is the caption (image line) or the user's phrase (text line), `image` an encoded picture.

    `mask` is a picture as large as `image`: white where the image is to be learnt, black where it is not, grey between.
    `meta` carries what only some lines or sources have: `completion`, `history` (the messages before the phrase),
    `concept`, `tags`, `licence` and so on.
    """

    id: str
    text: str
    image: bytes | None = None
    label: str = ""
    source: str = ""
    split: str = ""
    quality: float = 1.0
    meta: dict[str, Any] = field(default_factory=dict)
    mask: bytes | None = None

    def row(self) -> dict[str, Any]:
        """The sample as a Parquet row: `meta` as JSON with sorted keys, so that equal samples are equal bytes."""
        return {**asdict(self), "meta": json.dumps(self.meta, sort_keys=True, ensure_ascii=False)}


@dataclass(frozen=True)
class Reject:
    """A sample that was dropped, or as much of it as could be read: the reason in words, and a slug to count it by."""

    sample: Sample
    slug: str
    reason: str

    def row(self) -> dict[str, Any]:
        return {**self.sample.row(), "reason": self.reason, "slug": self.slug}


class Writer:
    """A file of samples (or rejects, with `REJECT_SCHEMA`), written one row group at a time as they come."""

    def __init__(self, path: Path, schema: pa.Schema = SCHEMA) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self._file, self._schema = pq.ParquetWriter(path, schema, compression="zstd"), schema
        self._group: list[dict[str, Any]] = []
        self._size = 0

    def add(self, item: Sample | Reject) -> None:
        row = item.row()
        self._group.append(row)
        self._size += len(row["image"] or b"") + len(row["mask"] or b"")
        if len(self._group) >= _ROWS or self._size >= _BYTES:
            self._flush()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._group:
            self._file.write_batch(pa.RecordBatch.from_pylist(self._group, schema=self._schema))
        self.count += len(self._group)
        self._group, self._size = [], 0


def write(path: Path, rows: Iterable[Sample | Reject], schema: pa.Schema = SCHEMA) -> int:
    """Write samples (or rejects) in their order; returns how many."""
    with Writer(path, schema) as file:
        for item in rows:
            file.add(item)
    return file.count


def write_batches(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write Arrow batches of `schema`, in their order; returns how many rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))
            count += batch.num_rows
    return count


def require(path: Path) -> int:
    """How many rows a file of samples holds; raises `StageError` as `read` does."""
    with _open(path) as file:
        return int(file.metadata.num_rows)


def read(path: Path) -> list[Sample]:
    """All samples of a file, in order; raises `StageError` where it is missing or not a file of samples."""
    return list(iterate(path))


def iterate(path: Path) -> Iterator[Sample]:
    """The samples of a file, in order, without holding more than a row group of them."""
    with _open(path) as file:
        names = [name for name in SCHEMA.names if name in file.schema_arrow.names]
        for number in range(file.num_row_groups):
            for row in file.read_row_group(number, columns=names).to_pylist():
                yield Sample(**{**row, "meta": json.loads(row["meta"])})


def first_reasons(path: Path) -> str:
    """Three of a file's rejects in words, each by where it came from; empty where there is none."""
    with _open(path) as file:
        batch = next(file.iter_batches(3, columns=["source", "reason"]), None)
        count = file.metadata.num_rows
    reasons = [f"{row['source']}: {row['reason']}" for row in (batch.to_pylist() if batch else [])]
    return "; ".join(reasons) + (f"; and {count - len(reasons)} more" if count > len(reasons) else "")


def count_slugs(path: Path) -> dict[str, int]:
    """How many of a file's rejects each slug counts, the most frequent first."""
    with _open(path) as file:
        slugs = file.read(columns=["slug"])["slug"].to_pylist()
    return dict(Counter(slugs).most_common())


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise StageError(f"{path}: not there; run the stage that makes it first") from error
    except pa.ArrowInvalid as error:
        raise StageError(f"{path}: not a readable Parquet file: {error}") from error
    missing = [name for name in SCHEMA.names if name not in (*file.schema_arrow.names, *LATER)]
    if missing:
        raise StageError(f"{path}: not a file of samples, columns {missing} are missing")
    return file
