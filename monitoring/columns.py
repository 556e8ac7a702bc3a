"""The columns drift is measured on: what texts say and how, and how requests went. Pure: rows in, data frames out.

Not here because events do not hold it: pictures (their digest only), hence their features and their alignment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from monitoring.embedding import Embed

Row = dict[str, Any]
Vectors = NDArray[np.float32]
WORD = re.compile(r"\w+", re.UNICODE)
UNKNOWN = "unknown word share"
TEXT_COLUMNS = ("characters", "words", "non-ASCII share", UNKNOWN, "repeated word share")
SERVICE_COLUMNS = ["latency (s)", "output tokens", "reacted", "liked of those who reacted"]
AXES = 5  # each costs a test; a topic that the reference has not shows in the distance to its centre instead
EMBEDDED = 1000  # texts of each side: the encoder is what takes a report's time
REACTION_S = 300.0  # a reaction counts if it comes within this time, so that the newest requests do not seem disliked


class TextReference:
    """Texts of a reference: their columns, and the same columns of other texts measured against them.

    `groups`: what each text is about, where several are about one thing. The meaning of texts after the first
    `EMBEDDED` is missing.
    """

    def __init__(self, texts: Sequence[str], embed: Embed | None, groups: Sequence[str] | None = None) -> None:
        self._vocabulary, self._meaning = frozenset(word for text in texts for word in words(text)), None
        self.columns = leave_group_out(texts, groups or [str(number) for number in range(len(texts))])
        if embed is not None and len(texts) > AXES:
            vectors_ND = embed(texts[:EMBEDDED])
            self._meaning = Meaning(embed, vectors_ND)
            self.columns = pd.concat([self.columns, self._meaning.columns(vectors_ND)], axis=1)

    def measure(self, texts: Sequence[str]) -> pd.DataFrame:
        """One row per text."""
        described = text_columns(texts, self._vocabulary)
        if self._meaning is None or not texts:
            return described
        return pd.concat([described, self._meaning.columns(self._meaning.embed(texts[:EMBEDDED]))], axis=1)


class Meaning:
    """Where unit vectors lie: cosine distance to the reference's mean direction, and on its principal axes."""

    def __init__(self, embed: Embed, reference_ND: Vectors) -> None:
        self.embed = embed
        centre_D = reference_ND.mean(axis=0)
        self._centre_D = centre_D / max(float(np.linalg.norm(centre_D)), 1e-12)
        self._axes = PCA(min(AXES, *reference_ND.shape), random_state=0).fit(reference_ND)

    def columns(self, vectors_ND: Vectors) -> pd.DataFrame:
        places_NA = self._axes.transform(vectors_ND)
        named = {f"meaning {i + 1}": places_NA[:, i] for i in range(places_NA.shape[1])}
        return pd.DataFrame({"distance from the usual": 1 - vectors_ND @ self._centre_D} | named)


def once_per_user(rows: Sequence[Row]) -> list[Row]:
    """Requests that ended well, one per user and prompt: a client that repeats itself is one observation."""
    return list({(row["user_key"], row["prompt"]): row for row in rows if row["outcome"] == "ok"}.values())


def service(rows: Sequence[Row], reactions: Sequence[Row], until: float) -> pd.DataFrame:
    """One row per request that has ended: seconds, tokens written (where the line writes any), reacted, liked.

    A column is missing where it does not apply: latency of what failed, a like where nobody reacted, and any reaction
    to requests so near to `until` that there was no time for one.
    """
    ended = [row for row in rows if row["outcome"] in ("ok", "error")]
    accepted = {(row["request_id"], row["user_key"]): row["time"] for row in ended}
    liked: dict[tuple[str, str], float] = {}
    for row in reactions:  # oldest first: the last word counts
        key = row["request_id"], row["user_key"]
        if key in accepted and 0 <= row["time"] - accepted[key] <= REACTION_S:
            liked[key] = float(row["value"] > 0)
    frame = pd.DataFrame([_service(row, liked, until) for row in ended], columns=SERVICE_COLUMNS, dtype=float)
    return frame if any(row["line"] == "text" for row in ended) else frame.drop(columns="output tokens")


def _service(row: Row, liked: dict[tuple[str, str], float], until: float) -> tuple[float | None, ...]:
    key, ok = (row["request_id"], row["user_key"]), row["outcome"] == "ok"
    ripe = ok and row["time"] <= until - REACTION_S
    return (
        row["latency_s"] if ok else None,
        row["completion_tokens"] if ok else None,
        float(key in liked) if ripe else None,
        liked.get(key) if ripe else None,
    )


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def text_columns(texts: Sequence[str], vocabulary: frozenset[str]) -> pd.DataFrame:
    """One row per text: characters, words, and shares (0 to 1) of non-ASCII characters, unknown and repeated words."""
    return pd.DataFrame([_text_row(text, vocabulary) for text in texts], columns=list(TEXT_COLUMNS), dtype=float)


def _text_row(text: str, vocabulary: frozenset[str]) -> tuple[float, ...]:
    written = words(text)
    count = max(len(written), 1)
    return (
        float(len(text)),
        float(len(written)),
        sum(not character.isascii() for character in text) / max(len(text), 1),
        sum(word not in vocabulary for word in written) / count,
        1 - len(set(written)) / count if written else 0.0,
    )


def leave_group_out(texts: Sequence[str], groups: Sequence[str]) -> pd.DataFrame:
    """`text_columns` for the reference itself, where a word is known only if a text of another group has it too.

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
    return text_columns(texts, frozenset(shared))
