"""Stage `clean`: `data/<line>/prepared/` → `data/<line>/clean/`, every reject beside its reason.

Runs on Daft: its native engine by default, a Ray cluster where the environment names one (`DAFT_RUNNER=ray`). Text
leaves as it came: only what is compared is normalised. Pictures leave as RGB PNG, so that no later stage meets bytes
that nobody has judged.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial as bind
from pathlib import Path
from typing import Any

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataType, col
from tokenizers import Tokenizer

from components import config
from components.artifact import staged
from components.data import filters
from components.data.sample import (
    REJECT_SCHEMA,
    REJECTS,
    SAMPLES,
    SCHEMA,
    SOURCES,
    first_reasons,
    require,
    write_batches,
)
from components.paths import DATA, ENCODER
from components.stage import StageError, run

# The image line's text encoder by its vocabulary alone: no torch is needed to see which captions it cannot read.
TOKENIZER = ENCODER / "tokenizer.json"
# What `examine` finds out about a row, by column.
_FIELDS = {
    "image": DataType.binary(),
    "length": DataType.int64(),
    "digest": DataType.string(),
    "reason": DataType.string(),
}
EXAMINED_SCHEMA = REJECT_SCHEMA.append(pa.field("length", pa.int64(), nullable=False)).append(
    pa.field("digest", pa.large_string(), nullable=False)
)


def main(line: config.Line) -> None:
    """Drop what a model should not learn from, and say why."""
    root = DATA / line
    try:
        kept, rejected = clean(line, getattr(config.load().clean, line), root / "prepared", root / "clean")
    except KeyboardInterrupt:
        print(f"error: clean {line}: interrupted, nothing was written; run it again", file=sys.stderr, flush=True)
        os._exit(
            130
        )  # Daft's threads may still run Python rows: an orderly exit would end in a fatal interpreter error
    first = first_reasons(root / "clean" / REJECTS)
    print(f"clean {line}: {kept} kept, {rejected} rejected" + (f": {first}" if first else ""), flush=True)


def clean(line: str, parameters: config.Clean, prepared: Path, folder: Path) -> tuple[int, int]:
    """Write kept samples and rejects below `folder`, whole or not at all; returns how many of each.

    Raises `StageError` where nothing is left.
    """
    read = require(prepared / SAMPLES)
    with staged(folder) as partial:
        examined = partial / "examined.parquet"
        write_batches(examined, _examined(line, parameters, prepared / SAMPLES), EXAMINED_SCHEMA)
        reasons = verdicts(examined, parameters.low_percentile, parameters.high_percentile)
        kept = write_batches(partial / SAMPLES, _with_reason(examined, reasons, kept=True), SCHEMA)
        rejected = write_batches(partial / REJECTS, _with_reason(examined, reasons, kept=False), REJECT_SCHEMA)
        if kept + rejected != read:
            raise AssertionError(f"read {read} samples, kept {kept} and rejected {rejected}")
        if kept == 0:
            first = first_reasons(partial / REJECTS)
            raise StageError(f"clean.{line}: all {read} samples were rejected, the first ones because: {first}")
        examined.unlink()
        shutil.copyfile(prepared / SOURCES, partial / SOURCES)
    return kept, rejected


def examine(
    text: str, image: bytes | None, meta: str, *, tokenizer: Tokenizer | None, max_pixels: int, min_side: int
) -> dict[str, Any]:
    """One row judged by itself: its picture, the length and digest that compare it, and a reason or none.

    With a `tokenizer` it is one of the image line, else one of the text line. Text is normalised for the comparison
    alone: what a model shall learn to write is what the source holds, byte for byte.
    """
    text = filters.normalise(text)
    completion = filters.normalise(str(json.loads(meta).get("completion", "")))
    reason = filters.empty(text, "text")
    if tokenizer is None:
        reason = reason or filters.empty(completion, "completion")
    else:
        reason = reason or filters.unknown_pieces(text, tokenizer)
        if not reason:
            image, reason = filters.picture(image, max_pixels=max_pixels, min_side=min_side)
    digest = hashlib.sha256(b"\0".join([text.encode(), completion.encode(), image or b""])).hexdigest()
    return {"image": image, "length": len(text) + len(completion), "digest": digest, "reason": reason}


def verdicts(examined: Path, low_percentile: float, high_percentile: float) -> dict[str, str]:
    """The reason of every row that is dropped, by id, in the order of ids: its own, its length or an earlier copy."""
    frame = daft.read_parquet(str(examined)).select("id", "length", "digest", "reason").collect()
    bounds = filters.length_bounds(_histogram(frame), low_percentile, high_percentile)
    outlier = daft.func(bind(_outlier, bounds=bounds), return_dtype=DataType.string(), use_process=False)
    frame = frame.with_column("reason", outlier(col("reason"), col("length")))
    alike = daft.Window().partition_by("digest", "reason")
    frame = frame.with_column("first", col("id").min().over(alike))
    repeated = daft.func(_repeated, return_dtype=DataType.string(), use_process=False)
    frame = frame.with_column("reason", repeated(col("reason"), col("id"), col("first")))
    dropped = frame.where(col("reason").length() > 0).select("id", "reason").sort("id").to_pydict()
    return dict(zip(dropped["id"], dropped["reason"], strict=True))


def _examined(line: str, parameters: config.Clean, path: Path) -> Iterator[pa.RecordBatch]:
    """Every row judged by itself, in the order of the file, a few at a time."""
    tokenizer = _tokenizer() if line == "image" else None
    judge = bind(examine, tokenizer=tokenizer, max_pixels=parameters.max_pixels, min_side=parameters.min_side)
    judged = daft.func(judge, return_dtype=DataType.struct(_FIELDS), use_process=False)
    rest = [name for name in SCHEMA.names if name not in _FIELDS]
    frame = daft.read_parquet(str(path)).with_column("judged", judged(col("text"), col("image"), col("meta")))
    frame = frame.select(*rest, *(col("judged").get(field).alias(field) for field in _FIELDS))
    yield from frame.select(*EXAMINED_SCHEMA.names).to_arrow_iter()


def _tokenizer() -> Tokenizer:
    if not TOKENIZER.is_file():
        raise StageError(f"{TOKENIZER}: not there; run `python -m components.data.fetch`")
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _with_reason(examined: Path, reasons: dict[str, str], *, kept: bool) -> Iterator[pa.RecordBatch]:
    """The rows that are kept, or those that are not beside their reasons, in the order of the file."""
    with pq.ParquetFile(examined) as file:
        for batch in file.iter_batches(columns=SCHEMA.names):
            found = pa.array([reasons.get(i, "") for i in batch.column("id").to_pylist()], pa.large_string())
            rows = batch if kept else batch.append_column("reason", found)
            yield rows.filter(pc.equal(found, "") if kept else pc.not_equal(found, ""))


def _histogram(frame: daft.DataFrame) -> dict[int, int]:
    kept = frame.where(col("reason").length() == 0)
    counts = kept.groupby("length").agg(col("id").count().alias("count")).to_pydict()
    return dict(zip(counts["length"], counts["count"], strict=True))


def _outlier(reason: str, length: int, *, bounds: tuple[int, int]) -> str:
    return reason or filters.length_outlier(length, *bounds)


def _repeated(reason: str, identity: str, first: str) -> str:
    return reason or ("" if identity == first else f"duplicate of {first}")


if __name__ == "__main__":
    run(main)
