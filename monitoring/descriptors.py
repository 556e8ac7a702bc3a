"""What can be counted in a text without a model: the columns whose distribution drift is measured on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

WORD = re.compile(r"\w+", re.UNICODE)


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """Every word of the reference texts."""
    return frozenset(word for text in texts for word in words(text))


def describe(texts: Sequence[str], known: frozenset[str]) -> pd.DataFrame:
    """One row per text: characters, words, and shares (0 to 1) of non-ASCII characters, unknown and repeated words."""
    return pd.DataFrame([_describe(text, known) for text in texts], columns=list(COLUMNS), dtype=float)


UNKNOWN = "unknown word share"
COLUMNS = ("characters", "words", "non-ASCII share", UNKNOWN, "repeated word share")


def _describe(text: str, known: frozenset[str]) -> tuple[float, ...]:
    found = words(text)
    count = max(len(found), 1)
    return (
        float(len(text)),
        float(len(found)),
        sum(not character.isascii() for character in text) / max(len(text), 1),
        sum(word not in known for word in found) / count,
        1 - len(set(found)) / count if found else 0.0,
    )


def leave_group_out(texts: Sequence[str], groups: Sequence[str]) -> pd.DataFrame:
    """`describe` for the reference itself, where a word is known only if a text of another group has it too.

    Without this the reference would know all its own words by construction, and every new text would seem to drift.
    Texts of one group are about one thing: what is new to the reference has no text about it there.
    """
    owner: dict[str, str] = {}
    shared = {
        word
        for text, group in zip(texts, groups, strict=True)
        for word in words(text)
        if owner.setdefault(word, group) != group
    }
    return describe(texts, frozenset(shared))
