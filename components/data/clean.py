"""Stage `clean`: `data/<line>/prepared/` → `data/<line>/clean/`, every reject beside its reason.

Runs on Daft: its native engine by default, a Ray cluster where the environment names one (`DAFT_RUNNER=ray`). Text
leaves as it came: only what is compared is normalised. Pictures leave as RGB PNG, so that no later stage meets bytes
that nobody has judged.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataType, col
from tokenizers import Tokenizer

from components import config
from components.artifact import staged
from components.data.examiner import Examiner
from components.data.filters import (
    LARGEST_SIDE_OF_PIPELINES,
    Drop,
    Duplicate,
    LengthOutlier,
    UnknownWords,
    chosen,
    normalise,
    picture_filters,
    pipeline_filters,
    text_filters,
)
from components.data.near_duplicates import near_pictures, near_texts
from components.data.picture_rules import PICTURE_RULES
from components.data.sample import (
    REJECT_SCHEMA,
    REJECTS,
    SAMPLES,
    SCHEMA,
    SOURCES,
    count_slugs,
    first_reasons,
    require,
    write_batches,
)
from components.data.text_rules import TEXT_RULES
from components.paths import DATA, ENCODER
from components.stage import StageError, run

# The image line's text encoder by its vocabulary alone: no torch is needed to see which captions it cannot read.
TOKENIZER = ENCODER / "tokenizer.json"
# What is found out about a row, by column.
_FIELDS = {
    "text": DataType.string(),
    "image": DataType.binary(),
    "mask": DataType.binary(),
    "meta": DataType.string(),
    "length": DataType.int64(),
    "digest": DataType.string(),
    "remarks": DataType.string(),
    "slug": DataType.string(),
    "reason": DataType.string(),
}
_JUDGED = ("text", "image", "mask", "meta")
_COMPARED = [pa.field("length", pa.int64(), nullable=False), pa.field("digest", pa.large_string(), nullable=False)]
EXAMINED_SCHEMA = pa.schema([*REJECT_SCHEMA, *_COMPARED, pa.field("remarks", pa.large_string(), nullable=False)])
_ROWS = {"text": 4096, "image": 64}  # judged at once
_MOST_UNREAD = 0.5  # of all captions: a text encoder that reads fewer is the wrong one for the set


def main(line: config.Line) -> None:
    """Drop what a model should not learn from, and say why."""
    root = DATA / line
    try:
        parameters, built_in = getattr(config.load().clean, line), config.load().base.image.is_built_in
        kept, rejected = clean(line, parameters, root / "prepared", root / "clean", built_in=built_in)
    except KeyboardInterrupt:
        print(f"error: clean {line}: interrupted, nothing was written; run it again", file=sys.stderr, flush=True)
        # Daft's threads may still run Python rows: an orderly exit would end in a fatal interpreter error.
        os._exit(130)
    slugs = ", ".join(f"{slug} {count}" for slug, count in count_slugs(root / "clean" / REJECTS).items())
    reasons = f": {first_reasons(root / 'clean' / REJECTS)} ({slugs})" if rejected else ""
    print(f"clean {line}: {kept} kept, {rejected} rejected{reasons}", flush=True)


def clean(
    line: str, parameters: config.Clean, prepared: Path, folder: Path, *, built_in: bool = True
) -> tuple[int, int]:
    """Write kept samples and rejects below `folder`, whole or not at all; returns how many of each.

    `built_in`: whether pictures are for the built-in model. Raises `StageError` where nothing is left.
    """
    read, examiner = require(prepared / SAMPLES), _examiner(line, parameters, built_in)
    if line == "image" and built_in:
        _find_unread(prepared / SAMPLES)
    with staged(folder) as staging:
        examined = staging / "examined.parquet"
        write_batches(examined, _examined(examiner, prepared / SAMPLES, _ROWS[line]), EXAMINED_SCHEMA)
        drops = verdicts(examined, parameters.low_percentile, parameters.high_percentile)
        if parameters.near_duplicates:
            near = near_texts if line == "text" else near_pictures
            drops |= near(examined, drops, parameters.near_duplicates)
        kept = write_batches(staging / SAMPLES, _kept(examined, drops), SCHEMA)
        rejected = write_batches(staging / REJECTS, _rejected(examined, drops), REJECT_SCHEMA)
        if kept + rejected != read:
            raise AssertionError(f"read {read} samples, kept {kept} and rejected {rejected}")
        if kept == 0:
            first = first_reasons(staging / REJECTS)
            raise StageError(f"clean.{line}: all {read} samples were rejected, the first ones because: {first}")
        for words, count in _remarked(examined, drops).items():
            print(f"clean {line}: {count} {words}", flush=True)
        examined.unlink()
        shutil.copyfile(prepared / SOURCES, staging / SOURCES)
    return kept, rejected


def verdicts(examined: Path, low_percentile: float, high_percentile: float) -> dict[str, Drop]:
    """Why each row that is dropped goes, by id: its own fault, its length or an earlier copy."""
    frame = daft.read_parquet(str(examined)).select("id", "length", "digest", "slug", "reason").collect()
    faulty = frame.where(col("slug") != "").select("id", "slug", "reason")
    drops = {identity: Drop(*drop) for identity, *drop in _rows(faulty)}
    frame = frame.where(col("slug") == "")
    histogram = dict(_rows(frame.groupby("length").agg(col("id").count())))
    outlier = LengthOutlier.of(histogram, low_percentile, high_percentile)
    near = col("length").between(outlier.shortest, outlier.longest)
    far = frame.where(~near).select("id", "length")
    drops |= {identity: drop for identity, length in _rows(far) if (drop := outlier(length))}
    first = col("id").min().over(daft.Window().partition_by("digest"))
    copies = frame.where(near).select("id", first.alias("first")).where(col("id") != col("first"))
    return drops | {identity: drop for identity, first in _rows(copies) if (drop := Duplicate()(identity, first))}


def _find_unread(samples: Path) -> None:
    """Say how many captions the built-in text encoder cannot read, before any picture is decoded.

    Raises `StageError` where it can read less than half of them.
    """
    unknown, first, count = UnknownWords(_tokenizer()), "", 0
    with pq.ParquetFile(samples) as file:
        total = file.metadata.num_rows
        for batch in file.iter_batches(columns=["text", "source"]):
            for row in batch.to_pylist():
                text = normalise(row["text"])
                if text and (fault := unknown.unread(text)):
                    first, count = first or f"{row['source']}: {text[:40]!r}: {fault}", count + 1
    if not count:
        return
    found = f"the text encoder, which reads English, cannot read {count} of {total} captions, the first {first}"
    if count > _MOST_UNREAD * total:
        raise StageError(f"clean.image: {found}; or bring a pipeline that reads them as base.image.model")
    print(f"clean image: {found}", flush=True)


def _remarked(examined: Path, drops: dict[str, Drop]) -> dict[str, int]:
    """How many of the pictures that stay each remark is true of."""
    counts: Counter[str] = Counter()
    with pq.ParquetFile(examined) as file:
        for batch in file.iter_batches(columns=["id", "remarks"]):
            for row in batch.to_pylist():
                counts.update(row["remarks"].splitlines() if row["id"] not in drops else ())
    return dict(counts)


def _examiner(line: str, parameters: config.Clean, built_in: bool) -> Examiner:
    """The filters of a line; raises `StageError` for a list of them that is wrong."""
    rules = TEXT_RULES if line == "text" else (*TEXT_RULES, *PICTURE_RULES)
    listed = chosen(parameters.filters, rules, f"clean.{line}.filters")
    if line == "text":
        return Examiner(text_filters(), listed)
    if built_in:
        return Examiner(picture_filters(_tokenizer(), parameters), listed)
    return Examiner(pipeline_filters(parameters), listed, LARGEST_SIDE_OF_PIPELINES)


def _examined(examiner: Examiner, path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """Every row judged by itself, in the order of the file, a few at a time."""

    def examine(*columns: daft.Series) -> pa.Array:
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return pa.array([examiner.examine(*row) for row in rows], found.to_arrow_dtype())

    found = DataType.struct(_FIELDS)
    judged = daft.func.batch(return_dtype=found, use_process=False, batch_size=rows)(examine)
    rest = [name for name in SCHEMA.names if name not in _JUDGED]
    frame = daft.read_parquet(str(path)).with_column("judged", judged(*map(col, _JUDGED)))
    frame = frame.select(*rest, *(col("judged").get(field).alias(field) for field in _FIELDS))
    yield from frame.select(*EXAMINED_SCHEMA.names).to_arrow_iter()


def _tokenizer() -> Tokenizer:
    if not TOKENIZER.is_file():
        raise StageError(f"{TOKENIZER}: not there; run `python -m components.data.fetch`")
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _kept(examined: Path, drops: dict[str, Drop]) -> Iterator[pa.RecordBatch]:
    """The rows that stay, in the order of the file."""
    return (batch.filter(pc.invert(dropped)) for batch, dropped in _batches(examined, drops))


def _rejected(examined: Path, drops: dict[str, Drop]) -> Iterator[pa.RecordBatch]:
    """The other rows, each beside its reason and slug."""
    for batch, dropped in _batches(examined, drops):
        rows = batch.filter(dropped)
        verdicts = [drops[identity] for identity in rows.column("id").to_pylist()]
        for name in ("reason", "slug"):
            rows = rows.append_column(name, pa.array([getattr(drop, name) for drop in verdicts], pa.large_string()))
        yield rows


def _batches(examined: Path, drops: dict[str, Drop]) -> Iterator[tuple[pa.RecordBatch, pa.BooleanArray]]:
    """A few rows at a time, and which of them are dropped."""
    with pq.ParquetFile(examined) as file:
        for batch in file.iter_batches(columns=SCHEMA.names):
            yield batch, pa.array([identity in drops for identity in batch.column("id").to_pylist()])


def _rows(frame: daft.DataFrame) -> Iterator[tuple[Any, ...]]:
    return zip(*frame.to_pydict().values(), strict=True)


if __name__ == "__main__":
    run(main)
