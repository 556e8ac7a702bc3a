"""The text line's samples as pairs: what the user says, what the model shall write, and the concept both may mean."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

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
    that is not known. `history`: the messages (role, content) before the phrase. `untaught`: places in it of answers
    that are read and not learned. `id` and `meta` are the sample's.
    """

    phrase: str
    completion: str
    concept: str = ""
    learned: bool = False
    rejected: str = ""
    history: tuple[tuple[str, str], ...] = ()
    untaught: tuple[int, ...] = ()
    id: str = field(default="", compare=False)
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def group(self) -> str:
        """What the split keeps on one side; the pair's own completion where it came through none."""
        return str(self.meta.get("split_group") or self.completion)

    @property
    def subject(self) -> str:
        """Equal for pairs that are too alike to count twice: the concept, or the group where none is named."""
        return self.concept or self.group

    @property
    def answers(self) -> list[tuple[tuple[tuple[str, str], ...], str]]:
        """Each earlier answer that is to be learned, after the messages before it."""
        return [
            (self.history[:place], text)
            for place, (role, text) in enumerate(self.history)
            if role == "assistant" and place not in self.untaught
        ]

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
    said = meta.get("history", ())
    history = tuple((message["role"], message["content"]) for message in said)
    untaught = tuple(place for place, message in enumerate(said) if message.get("weight") == 0)
    concept = str(row["label"] or meta["concept"]) if meta.get("concept") else ""
    if row["label"]:
        meta["label"] = row["label"]
    rejected, identity = meta.get("rejected", ""), str(row["id"])
    return Pair(row["text"], completion, concept, learned, rejected, history, untaught, id=identity, meta=meta)


def distinct_pairs(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """One pair of each `subject`, drawn by `seed`: alike pairs would count one observation several times."""
    shuffled = random.Random(seed).sample(list(pairs), len(pairs))  # noqa: S311 - a sample
    return list({pair.subject: pair for pair in shuffled}.values())


class MayBeLearned(Protocol):
    @property
    def learned(self) -> bool: ...


SampleT = TypeVar("SampleT", bound=MayBeLearned)


def repeated(samples: Sequence[SampleT], share: float) -> list[SampleT]:
    """`samples` with the learned ones repeated until they are about `share` of all, where there are fewer.

    A model that is trained for some hundreds of steps would hardly see a hundred new ones among thousands. None is
    repeated more than `MOST_REPEATS` times: a handful must not make up a model.
    """
    learned = [sample for sample in samples if sample.learned]
    others = len(samples) - len(learned)
    if not learned:
        return list(samples)
    times = max(1, min(MOST_REPEATS, round(share / (1 - share) * others / len(learned))))
    return [*samples, *learned * (times - 1)]
