"""Stage `clean`: `data/<line>/prepared/` → `data/<line>/clean/`, every reject beside its reason.

Runs on Daft: its native engine by default, a Ray cluster where the environment names one (`DAFT_RUNNER=ray`). Text
leaves normalised, pictures leave as RGB PNG, so no later stage meets bytes that nobody has judged.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from functools import partial as bind
from pathlib import Path
from typing import Any

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft
import pyarrow as pa
from daft import DataType, col

from components import config
from components.artifact import staged
from components.data import filters
from components.data.sample import REJECT_SCHEMA, REJECTS, SAMPLES, SCHEMA, SOURCES, require, write_batches
from components.stage import StageError, run

# What `examine` finds out about a row, by column.
_FIELDS = {
    "text": DataType.string(),
    "image": DataType.binary(),
    "meta": DataType.string(),
    "length": DataType.int64(),
    "digest": DataType.string(),
    "reason": DataType.string(),
}


def main(line: config.Line) -> None:
    """Drop what a model should not learn from, and say why."""
    root = Path("data") / line
    kept, rejected = clean(line, getattr(config.load().clean, line), root / "prepared", root / "clean")
    print(f"clean {line}: {kept} kept, {rejected} rejected", flush=True)


def clean(line: str, parameters: config.Clean, prepared: Path, folder: Path) -> tuple[int, int]:
    """Write kept samples and rejects below `folder`, whole or not at all; returns how many of each.

    Raises `StageError` where nothing is left.
    """
    read = require(prepared / SAMPLES)
    frame = _judged(line, parameters, prepared / SAMPLES)
    with staged(folder) as partial:
        kept = write_batches(partial / SAMPLES, _batches(frame, SCHEMA.names, kept=True), SCHEMA)
        rejected = write_batches(partial / REJECTS, _batches(frame, REJECT_SCHEMA.names, kept=False), REJECT_SCHEMA)
        if kept + rejected != read:
            raise AssertionError(f"read {read} samples, kept {kept} and rejected {rejected}")
        if kept == 0:
            raise StageError(f"clean.{line}: all {read} samples were rejected, {_first_reasons(frame)}")
        shutil.copyfile(prepared / SOURCES, partial / SOURCES)
    return kept, rejected


def examine(text: str, image: bytes | None, meta: str, *, line: str, max_pixels: int, min_side: int) -> dict[str, Any]:
    """One row judged by itself: its normalised fields, the length and digest that compare it, and a reason or none."""
    fields = json.loads(meta)
    text = filters.normalise(text)
    completion = filters.normalise(str(fields.get("completion", "")))
    reason = filters.empty(text, "text")
    if line == "text":
        fields["completion"] = completion
        reason = reason or filters.empty(completion, "completion")
    elif not reason:
        image, reason = filters.picture(image, max_pixels=max_pixels, min_side=min_side)
    digest = hashlib.sha256(b"\0".join([text.encode(), completion.encode(), image or b""])).hexdigest()
    meta = json.dumps(fields, sort_keys=True, ensure_ascii=False)
    length = len(text) + len(completion)
    return {"text": text, "image": image, "meta": meta, "length": length, "digest": digest, "reason": reason}


def _judged(line: str, parameters: config.Clean, path: Path) -> daft.DataFrame:
    """All rows in the order of their ids, with `reason` empty where the row is kept."""
    judge = bind(examine, line=line, max_pixels=parameters.max_pixels, min_side=parameters.min_side)
    judge = daft.func(judge, return_dtype=DataType.struct(_FIELDS), use_process=False)
    rest = [name for name in SCHEMA.names if name not in ("text", "image", "meta")]
    frame = daft.read_parquet(str(path)).with_column("judged", judge(col("text"), col("image"), col("meta")))
    frame = frame.select(*rest, *(col("judged").get(field).alias(field) for field in _FIELDS)).collect()
    bounds = filters.length_bounds(_histogram(frame), parameters.low_percentile, parameters.high_percentile)
    outlier = daft.func(bind(_outlier, bounds=bounds), return_dtype=DataType.string(), use_process=False)
    frame = frame.with_column("reason", outlier(col("reason"), col("length")))
    alike = daft.Window().partition_by("digest", "reason")
    frame = frame.with_column("first", col("id").min().over(alike))
    repeated = daft.func(_repeated, return_dtype=DataType.string(), use_process=False)
    return frame.with_column("reason", repeated(col("reason"), col("id"), col("first"))).sort("id").collect()


def _histogram(frame: daft.DataFrame) -> dict[int, int]:
    counts = (
        frame.where(col("reason").length() == 0).groupby("length").agg(col("id").count().alias("count")).to_pydict()
    )
    return dict(zip(counts["length"], counts["count"], strict=True))


def _outlier(reason: str, length: int, *, bounds: tuple[int, int]) -> str:
    return reason or filters.length_outlier(length, *bounds)


def _repeated(reason: str, identity: str, first: str) -> str:
    return reason or ("" if identity == first else f"exact duplicate of {first}")


def _batches(frame: daft.DataFrame, columns: list[str], *, kept: bool) -> Iterator[pa.RecordBatch]:
    wanted = col("reason").length() == 0 if kept else col("reason").length() > 0
    yield from frame.where(wanted).select(*columns).to_arrow_iter()


def _first_reasons(frame: daft.DataFrame) -> str:
    rows = frame.select("source", "reason").limit(3).to_pylist()
    return "; ".join(f"{row['source']}: {row['reason']}" for row in rows)


if __name__ == "__main__":
    run(main)
