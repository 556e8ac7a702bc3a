"""The text line's samples as pairs: what the user says, what the model shall write, and the concept both may mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow import ArrowInvalid

from components.data.sample import LEARNED
from components.stage import StageError

MOST_REPEATS = 30


@dataclass(frozen=True)
class Pair:
    """`phrase` is the user's, `completion` what the model shall write.

    `concept`: the name of the intended picture, empty where the sample has no `meta.concept`.

    `learned`: it comes from users' reactions or from annotators. `rejected`: what users disliked instead, empty where
    that is not known. `history`: the messages (role, content) before the phrase. `id` and `meta` are the sample's.
    """

    phrase: str
    completion: str
    concept: str = ""
    learned: bool = False
    rejected: str = ""
    history: tuple[tuple[str, str], ...] = ()
    id: str = field(default="", compare=False)
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def group(self) -> str:
        """What the split keeps on one side; the pair's own completion where it came through none."""
        return str(self.meta.get("split_group") or self.completion)

    @property
    def messages(self) -> tuple[tuple[str, str], ...]:
        """The conversation up to where the model answers."""
        return (*self.history, ("user", self.phrase))


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a split file in stored order; raises `StageError` where the file or a completion is missing."""
    try:
        rows = pq.read_table(path, columns=["id", "text", "label", "source", "meta"]).to_pylist()
    except (FileNotFoundError, ArrowInvalid) as error:
        raise StageError(f"{path}: cannot be read as samples: {error}; run the data stages first") from error
    if not rows:
        raise StageError(f"{path}: holds no sample; give the split more data or a larger share")
    return [_pair(path, row) for row in rows]


def _pair(path: Path, row: dict[str, str | None]) -> Pair:
    meta = json.loads(row["meta"] or "{}")
    completion = meta.get("completion")
    if not row["text"] or not completion:
        raise StageError(f"{path}: sample {row['id']!r} has no text or no meta.completion")
    learned = (row["source"] or "") in LEARNED
    history = tuple((message["role"], message["content"]) for message in meta.get("history", ()))
    concept = str(row["label"] or meta["concept"]) if meta.get("concept") else ""
    if row["label"]:
        meta["label"] = row["label"]
    return Pair(
        row["text"], completion, concept, learned, meta.get("rejected", ""), history, id=str(row["id"]), meta=meta
    )


def repeated(pairs: Sequence[Pair], share: float) -> list[Pair]:
    """`pairs` with the learned ones repeated until they are about `share` of all, where there are fewer.

    A model that is trained for some hundreds of steps would hardly see a hundred new pairs among thousands. No pair is
    repeated more than `MOST_REPEATS` times: a handful must not make up a model.
    """
    learned = [pair for pair in pairs if pair.learned]
    others = len(pairs) - len(learned)
    if not learned:
        return list(pairs)
    times = max(1, min(MOST_REPEATS, round(share / (1 - share) * others / len(learned))))
    return [*pairs, *learned * (times - 1)]
