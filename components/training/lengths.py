"""How long the samples of a text training are, and what becomes of those that do not fit.

Nothing is cut inside of an answer, and nothing is left out unsaid. Knows conversations and tokens, no weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from components.config import TrainText
from components.data.pairs import Pair
from components.models.language import IGNORED, Chat, Encoded
from components.stage import StageError
from components.training.trainer import is_writer


class Taught(NamedTuple):
    """One sample, what users disliked instead of its last answer, and whether it comes from users or annotators."""

    encoded: Encoded
    disliked: Encoded | None
    learned: bool

    @property
    def length(self) -> int:
        """Tokens of the longer of both."""
        return max(len(ids) for ids, _ in (self.encoded, self.disliked or self.encoded))

    @property
    def labels(self) -> int:
        """Tokens that carry loss."""
        return sum(label != IGNORED for label in self.encoded[1][1:])


@dataclass(frozen=True)
class Fit:
    """The samples to train on; in `metrics` how long they were and what became of those too long."""

    samples: list[Taught]
    metrics: dict[str, float]


def encode(chat: Chat, pair: Pair, settings: TrainText) -> list[Taught]:
    """The samples of a pair; what was disliked stands beside the last."""
    *earlier, last = chat.encode_all(pair, settings.answers)
    disliked = chat.encode(replace(pair, completion=pair.rejected)) if pair.rejected else None
    return [*(Taught(sample, None, pair.learned) for sample in earlier), Taught(last, disliked, pair.learned)]


def fitting(chat: Chat, pairs: Sequence[Pair], settings: TrainText, most: int) -> Fit:
    """The samples of `pairs` that have at most `settings.max_length` tokens, null for the longest, and at most `most`.

    A pair with a longer one is treated as `settings.overflow` says, and that is said in one line. Raises `StageError`
    where that is to refuse, and where no sample is left.
    """
    encoded = [encode(chat, pair, settings) for pair in pairs]
    lengths = [max(sample.length for sample in samples) for samples in encoded]
    bound = min(settings.max_length or max(lengths, default=0), most)
    kept = [sample for samples, length in zip(encoded, lengths, strict=True) if length <= bound for sample in samples]
    long = [pair for pair, length in zip(pairs, lengths, strict=True) if length > bound]
    parts = [list(split(chat, pair, settings, bound)) if settings.overflow == "split" else [] for pair in long]
    kept += [sample for own in parts for part in own for sample in encode(chat, part, settings)]
    lost = _too_long(pairs, long, parts, settings)
    metrics: dict[str, float] = {
        **percentiles([sample.length for samples in encoded for sample in samples]),
        "max_length": bound,
        "samples": len(kept),
        **lost,
    }
    longest = f"more than {bound} tokens (the longest has {max(lengths, default=0)})"
    longer = _what_to_do(settings, most)
    if long and settings.overflow == "refuse":
        raise StageError(
            f"{len(long)} of {len(pairs)} pairs have {longest}; {longer}, or set overflow under train.text to "
            "leave_out or split"
        )
    if not kept:
        raise StageError(
            f"none of {len(pairs)} pairs has at most {bound} tokens, its prompt included (the shortest has "
            f"{min(lengths, default=0)}); {longer}"
        )
    if long and is_writer():
        halved, left_out = lost["pairs_split"], lost["pairs_too_long"]
        cut = f"{halved} of {len(pairs)} pairs are split between turns, " if halved else ""
        print(
            f"{cut}{left_out} of {len(pairs)} pairs are left out, {lost['answers_too_long']} answers in "
            f"all: their prompt and completion have {longest}; to learn from them {longer}",
            flush=True,
        )
    return Fit(kept, metrics)


def _too_long(
    pairs: Sequence[Pair], long: Sequence[Pair], parts: Sequence[Sequence[Pair]], settings: TrainText
) -> dict[str, int]:
    """Of `pairs`, how many were `long` and what was lost of them; `parts` holds what became of each of these."""
    split_up, kept = sum(map(bool, parts)), [part for own in parts for part in own]
    return {
        "pairs": len(pairs) - len(long) + split_up,
        "pairs_too_long": len(long) - split_up,
        "pairs_split": split_up,
        "answers_too_long": sum(answers(pair, settings) for pair in long)
        - sum(answers(part, settings) for part in kept),
        "rejected_too_long": sum(bool(pair.rejected) for pair in long) - sum(bool(part.rejected) for part in kept),
    }


def _what_to_do(settings: TrainText, most: int) -> str:
    if settings.max_length is not None and settings.max_length <= most:
        return "raise max_length under train.text"
    return f"take a base that holds more, or a larger machine: {most} is what both allow"


def split(chat: Chat, pair: Pair, settings: TrainText, bound: int) -> Iterator[Pair]:
    """A conversation in as few parts as have at most `bound` tokens, the last first, each led by its system message.

    Cut is before a user's turn alone. An answer that is too long with its own turn is in no part; where the
    rejected one is, the wanted one is learned without it.
    """
    said = (*pair.messages, ("assistant", pair.completion))
    first = int(said[0][0] == "system")
    untaught = pair.untaught if settings.answers == "all" else range(len(pair.history))

    def part(start: int, end: int) -> Pair:
        *history, (_, phrase), (_, completion) = *said[:first], *said[start:end]
        apart = tuple(place - start + first for place in pair.untaught if start <= place < end)
        rejected = pair.rejected if end == len(said) else ""
        return Pair(phrase, completion, pair.concept, pair.learned, rejected, tuple(history), apart)

    def fits(start: int, end: int) -> bool:
        return all(sample.length <= bound for sample in encode(chat, part(start, end), settings))

    end = len(said)
    if pair.rejected and not fits(end - 2, end):
        pair = replace(pair, rejected="")
    while end > first:
        start = end - 2
        if end - 1 in untaught or not fits(start, end):
            end = start
            continue
        while start > first and fits(start - 2, end):
            start -= 2
        yield part(start, end)
        end = start


def answers(pair: Pair, settings: TrainText) -> int:
    """Answers of a pair that are learned."""
    return 1 + (len(pair.answers) if settings.answers == "all" else 0)


def percentiles(lengths: Sequence[int]) -> dict[str, float]:
    """Tokens per sample, each figure that of a real sample."""
    shares = {"tokens_min": 0, "tokens_median": 50, "tokens_95": 95, "tokens_99": 99, "tokens_max": 100}
    found = np.percentile(lengths, list(shares.values()), method="higher")
    return {name: int(value) for name, value in zip(shares, found, strict=True)}
