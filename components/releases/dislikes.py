"""Whether users dislike a candidate on trial more than the champion: looked at every second, it ends within seconds.

A user's side is drawn by their key alone. So where the candidate is no worse, each user who dislikes an answer is one
of the candidate's with the probability of its share at most, whoever reacts and however many do: a sequential test of
one proportion, by a confidence sequence (package `ville`) that holds for all looks. A user counts once in a window,
however often they click. Windows are short, so that good hours do not hide a bad minute; all windows of a state
together keep `alpha`. What only long evidence shows is the driver's to find (`decide`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

from sqlalchemy import Engine, select

from components.config import Line
from components.events.database import reading
from components.events.schema import ACCEPTED, FEEDBACK, LIKE, CallKind, CandidateCall, Reason
from components.events.window import received
from components.releases.decide import TESTS, share
from components.releases.machine import SHARES
from components.releases.schema import Release

WINDOW_SECONDS = 60.0


def verdict(engine: Engine, candidate: Release, champion: str, alpha: float) -> CandidateCall | None:
    """The row that cuts a candidate off, for every gateway and the driver; None while it may go on."""
    if candidate.state not in SHARES:
        return None
    now = time.time()
    window = int(max(now - candidate.since, 0.0) // WINDOW_SECONDS)
    disliked = whose(engine, candidate, champion, candidate.since + window * WINDOW_SECONDS)
    if not worse(disliked, SHARES[candidate.state], window, alpha):
        return None
    return CandidateCall(
        request_id=candidate.release,
        time=now,
        kind=CallKind.BREAKER,
        line=cast(Line, candidate.line),
        deployment=candidate.deployment,
        reason=Reason.DISLIKED,
        latency_s=0.0,
    )


def worse(disliked: Sequence[bool], portion: float, window: int, alpha: float) -> bool:
    """Whether more of those who `disliked` are the candidate's (True) than its portion of users, in window 0, 1, ..."""
    # The sum of 1 / ((w + 1) (w + 2)) over all windows is 1.
    return share(disliked, alpha / TESTS / ((window + 1) * (window + 2))).low > portion


def whose(engine: Engine, candidate: Release, champion: str, since: float) -> list[bool]:
    """Of each user whose dislike of an answer came since then, in order of the first: whether the candidate was asked
    for it. Gateways' clocks decide, so that a client that dates a reaction back changes no earlier look."""
    query = (
        select(FEEDBACK.c.user_key, ACCEPTED.c.deployment)
        .join(ACCEPTED, ACCEPTED.c.request_id == FEEDBACK.c.request_id)
        .where(FEEDBACK.c.kind == LIKE, FEEDBACK.c.value <= 0, received >= since)
        # Only a user's own answers, and only of this state: in the one before, fewer users were the candidate's.
        .where(ACCEPTED.c.user_key == FEEDBACK.c.user_key, ACCEPTED.c.time >= candidate.since)
        .where(ACCEPTED.c.deployment.in_([candidate.deployment, champion]))
        .order_by(received, FEEDBACK.c.key)
    )
    first: dict[str, bool] = {}
    with reading(engine, "releases") as connection:
        for row in connection.execute(query):
            first.setdefault(row.user_key, row.deployment == candidate.deployment)
    return list(first.values())
