"""One row of samples judged by itself: what it has to pass, and the row as it is written where it stays. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from components.data.filters import LARGEST_SIDE, Candidate, Chosen, Drop, Filter, normalise, screen
from components.data.picture import remarks

_STAYS = Drop("", "")
_ANSWERS = ("completion", "rejected")
_NOTES = "cleaning"  # in a sample's meta: which filters flagged it, and how much of which kind is redacted


@dataclass(frozen=True)
class Examiner:
    """The filters that a model needs, then those that `params.yaml` lists, and the largest side of a picture.

    A picture that stays becomes an RGB PNG of at most `largest` pixels a side, its mask a grey one of that size.
    """

    filters: Sequence[Filter[[Candidate]]]
    chosen: Sequence[Chosen] = ()
    largest: int = LARGEST_SIDE

    def examine(self, text: str, image: bytes | None, mask: bytes | None, meta: str) -> dict[str, Any]:
        """The row as it is written, the length and digest that compare it, and why it is dropped.

        Text is normalised for the comparison alone: what a model shall learn to write is what the source holds, byte
        for byte, but for what a filter is asked to redact.
        """
        known, noted = json.loads(meta), list[str]()
        candidate = Candidate(normalise(text), normalise(str(known.get("completion", ""))), image, mask)
        drop = next(filter(None, (judge(candidate) for judge in self.filters)), None)
        if self.chosen and not drop:
            candidate.texts = _said(text, known)
            drop = screen(candidate, self.chosen)
            if not drop and (candidate.flagged or candidate.redacted):
                text, meta = _rewritten(candidate, known)
                noted += _notes(candidate)
        if image is not None and not drop:
            noted += remarks(image)
            candidate.shrink(self.largest)
            image, mask = candidate.encoded()
        history = (normalise(message["content"]) for message in known.get("history", ()))
        texts = candidate.text, candidate.completion, *history
        parts = [*(part.encode() for part in texts), image or b"", *([mask] if mask else [])]
        digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
        row = {"text": text, "image": image, "mask": mask, "meta": meta, "remarks": "\n".join(noted)}
        return row | {"length": sum(map(len, texts)), "digest": digest} | (drop or _STAYS)._asdict()


def _said(text: str, known: dict[str, Any]) -> list[str]:
    """All that may be learnt from a sample: its text, the answers, the messages before."""
    answers = (known[name] for name in _ANSWERS if isinstance(known.get(name), str))
    return [text, *answers, *(message["content"] for message in known.get("history", ()))]


def _rewritten(candidate: Candidate, known: dict[str, Any]) -> tuple[str, str]:
    """Text and meta of a sample that stays with what filters noted; `known`, its meta, is changed."""
    text, *others = candidate.texts
    said = iter(others)
    known |= {name: next(said) for name in _ANSWERS if isinstance(known.get(name), str)}
    for message in known.get("history", ()):
        message["content"] = next(said)
    notes = {"flagged": candidate.flagged, "redacted": dict(candidate.redacted)}
    known[_NOTES] = {name: value for name, value in notes.items() if value}
    candidate.text, candidate.completion = normalise(text), normalise(str(known.get("completion", "")))
    return text, json.dumps(known, sort_keys=True, ensure_ascii=False)


def _notes(candidate: Candidate) -> Iterator[str]:
    """What was noted of a sample, in words for many."""
    yield from (f"samples are flagged as {name}, and stay" for name in dict.fromkeys(candidate.flagged))
    yield from (f"samples have [{kind}] in place of what was there" for kind in candidate.redacted)
