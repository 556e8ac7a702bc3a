"""The columns drift is measured on: what texts say and how, and how requests went. Pure: rows in, data frames out.

Not here because events do not hold it: pictures (their digest only), hence their features and their alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from monitoring.descriptors import describe, leave_one_out, vocabulary
from monitoring.embedding import Embed

Row = dict[str, Any]
Vectors = NDArray[np.float32]
AXES = 5  # each costs a test; a topic that the reference has not shows in the distance to its centre instead
REACTION_S = 300.0  # a reaction counts if it comes within this time, so that the newest requests do not seem disliked


def texts(reference: Sequence[str], current: Sequence[str], embed: Embed | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(reference, current) columns of texts: descriptors and, with `embed`, their meaning."""
    before, after = leave_one_out(reference), describe(current, vocabulary(reference))
    if embed is None or not reference or not current:
        return before, after
    meaning = [pd.DataFrame(columns) for columns in _meaning(embed(reference), embed(current))]
    return pd.concat([before, meaning[0]], axis=1), pd.concat([after, meaning[1]], axis=1)


def _meaning(reference_ND: Vectors, current_MD: Vectors) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
    """Cosine distance of unit vectors to the reference's mean direction, and their place on its principal axes."""
    centre_D = reference_ND.mean(axis=0)
    centre_D /= max(float(np.linalg.norm(centre_D)), 1e-12)
    axes = PCA(min(AXES, *reference_ND.shape), random_state=0).fit(reference_ND)

    def columns(vectors_ND: Vectors) -> dict[str, Vectors]:
        places_NA = axes.transform(vectors_ND)
        named = {f"meaning {i + 1}": places_NA[:, i] for i in range(places_NA.shape[1])}
        return {"distance from the usual": 1 - vectors_ND @ centre_D} | named

    return columns(reference_ND), columns(current_MD)


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
    frame = pd.DataFrame([_service(row, liked, until) for row in ended], columns=SERVICE, dtype=float)
    return frame if any(row["line"] == "text" for row in ended) else frame.drop(columns="output tokens")


SERVICE = ["latency (s)", "output tokens", "reacted", "liked of those who reacted"]


def _service(row: Row, liked: dict[tuple[str, str], float], until: float) -> tuple[float | None, ...]:
    key, ok = (row["request_id"], row["user_key"]), row["outcome"] == "ok"
    ripe = ok and row["time"] <= until - REACTION_S
    return (
        row["latency_s"] if ok else None,
        row["completion_tokens"] if ok else None,
        float(key in liked) if ripe else None,
        liked.get(key) if ripe else None,
    )
