"""The text line's samples as pairs: what the user says, the picture prompt to write, and the concept both mean."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import ArrowInvalid

from components.stage import StageError


@dataclass(frozen=True)
class Pair:
    """`phrase` is the user's, `completion` what the model shall write, `concept` the name of the intended picture."""

    phrase: str
    completion: str
    concept: str


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a split file in stored order; raises `StageError` where the file or a completion is missing."""
    try:
        rows = pq.read_table(path, columns=["id", "text", "label", "meta"]).to_pylist()
    except (FileNotFoundError, ArrowInvalid) as error:
        raise StageError(f"{path}: cannot be read as samples: {error}; run the data stages first") from error
    if not rows:
        raise StageError(f"{path}: holds no sample; give the split more data or a larger share")
    return [_pair(path, row) for row in rows]


def _pair(path: Path, row: dict[str, str | None]) -> Pair:
    completion = json.loads(row["meta"] or "{}").get("completion")
    if not row["text"] or not completion:
        raise StageError(f"{path}: sample {row['id']!r} has no text or no meta.completion")
    return Pair(row["text"], completion, row["label"] or completion)
