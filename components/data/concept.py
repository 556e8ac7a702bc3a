"""Which drawings show one concept, and the number by which a concept is held out: two pure rules every line shares.

With equal seeds the lines agree on each concept: one whose draw is below `test` is a test or left out, one below `test
+ validation` is held out too, whatever it may be similar to in one of the lines. Knows nothing of files or samples.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Side = Literal["train", "validation", "test"]

_SKIN_TONES = frozenset({"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"})
# Code points that only say how the same thing is drawn: emoji presentation, woman, man, facing right.
_MODIFIERS = _SKIN_TONES | {"FE0F", "2640", "2642", "27A1"}
_JOINER = "200D"
# Man and woman count as person, boy and girl as child, old man and old woman as older person.
_PERSONS = {"1F468": "1F9D1", "1F469": "1F9D1", "1F466": "1F9D2", "1F467": "1F9D2", "1F474": "1F9D3", "1F475": "1F9D3"}
_CLOCK_FACES = range(0x1F550, 0x1F568)


def concept(hexcode: str) -> str:
    """The base concept of an emoji: its code points without skin tone, gender, direction and joiners.

    >>> concept("1F44D-1F3FD"), concept("1F469-1F3FB-200D-1F680"), concept("1F468-200D-1F680")
    ('1F44D', '1F9D1-1F680', '1F9D1-1F680')
    """
    points = [p for p in hexcode.upper().split("-") if p not in _MODIFIERS and p != _JOINER]
    if len(points) == 1 and int(points[0], 16) in _CLOCK_FACES:
        return "1F550"  # twenty-four clock faces that differ in the hands alone
    return "-".join(_PERSONS.get(p, p) for p in points) or hexcode.upper()


def draw(key: str, seed: int) -> float:
    """A number in [0, 1) that depends on `key` and `seed` alone: equal on every machine and in every line."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
