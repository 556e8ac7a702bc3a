"""Captions that the image line's shipped base has learnt: what it is asked to rehearse, and what it is asked about.

They come from the base's own list of what it has seen, so that no user needs the base's pictures. A concept is either
rehearsed in fine-tuning or asked about afterwards, by a draw: what is asked about shows what is kept without rehearsal.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from components.data.concept import draw
from components.data.openmoji import catalogue, styled
from components.paths import ASSETS, IMAGE_BASE

ASKED = 0.25  # share of the concepts that are asked about


def base_captions(
    count: int, seed: int, *, rehearsed: bool, assets: Path = ASSETS, base: Path = IMAGE_BASE
) -> list[tuple[str, str]]:
    """(prompt in a style, name) of up to `count` concepts that the base has seen, one drawing of each."""
    entries = {entry.hexcode: entry for entry in catalogue(assets)}
    drawings = (identity.partition("-") for identity in json.loads((base / "training_ids.json").read_bytes()))
    known = [(style, entries[hexcode]) for style, _, hexcode in drawings if hexcode in entries]
    random.Random(seed).shuffle(known)  # noqa: S311 - a sample
    one_each = {
        entry.concept: (styled(style, entry.caption), entry.name)
        for style, entry in known
        if rehearsed == (draw(entry.concept, seed=2) >= ASKED)
    }
    return list(one_each.values())[:count]
