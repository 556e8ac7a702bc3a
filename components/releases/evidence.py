"""What the events database says of a candidate since its last move. Reads only, and nothing that users wrote."""

from __future__ import annotations

import time
from typing import cast

from sqlalchemy import Connection, Engine, select

from components.config import Line
from components.config import Release as Rules
from components.events.schema import ACCEPTED, BOTH, FEEDBACK, FINISHED, LIKE, NEWEST, TRIALS
from components.events.transactions import reading
from components.experiments.exposures import Exposure
from components.releases.decide import CANDIDATE, CHAMPION, Call, Evidence, weigh
from components.releases.machine import State
from components.releases.schema import Release


def gather(engine: Engine, candidate: Release, champion: Release | None, rules: Rules) -> Evidence:
    """All that is known of a candidate on trial in its present state."""
    return weigh(
        candidate.state,
        time.time() - candidate.since,
        calls(engine, candidate, rules.slow_seconds[cast(Line, candidate.line)]),
        exposures(engine, candidate, champion.deployment if champion else None),
        breaker(engine, candidate),
        rules.alpha,
    )


def calls(engine: Engine, release: Release, slow_seconds: float) -> list[Call]:
    """The candidate's calls since its last move, oldest first: in shadow the copies, later the users' own.

    A request that its user left, that is not finished or at which the champion failed alike says nothing.
    """
    with reading(engine, "releases") as connection:
        failed = _trials(connection, release)
        if release.state is State.SHADOW:
            return [Call(reason not in ("", "slow"), latency > slow_seconds) for _, reason, latency in failed]
        reasons = {request: reason for request, reason, _ in failed}
        query = (
            select(ACCEPTED.c.request_id, FINISHED.c.latency_s, FINISHED.c.status)
            .join(FINISHED, ACCEPTED.c.request_id == FINISHED.c.request_id)
            .where(ACCEPTED.c.deployment == release.deployment, ACCEPTED.c.time >= release.since)
            .where(FINISHED.c.outcome.not_in(("cancelled", "lost")))
            .order_by(ACCEPTED.c.time)
        )
        return [
            # `slow` in the trials is the gateway's word for far above the champion; here the line's own bound holds.
            Call(row.status >= 500 or reasons.get(row.request_id, "slow") != "slow", row.latency_s > slow_seconds)
            for row in connection.execute(query)
            if reasons.get(row.request_id) != BOTH
        ]


def exposures(engine: Engine, release: Release, champion: str | None) -> list[Exposure]:
    """The line's requests since the release's last move, by who was asked, and whether their users liked them."""
    liked = select(FEEDBACK.c.request_id, FEEDBACK.c.user_key, FEEDBACK.c.value).where(
        FEEDBACK.c.kind == LIKE, FEEDBACK.c.time >= release.since
    )
    asked = select(ACCEPTED.c.request_id, ACCEPTED.c.user_key, ACCEPTED.c.time, ACCEPTED.c.deployment).where(
        ACCEPTED.c.deployment.in_([release.deployment, champion or ""]), ACCEPTED.c.time >= release.since
    )
    with reading(engine, "releases") as connection:
        # The latest reaction of each user to each of their own responses counts.
        reactions = {(row.request_id, row.user_key): row.value for row in connection.execute(liked.order_by(*NEWEST))}
        return [
            Exposure(
                user_key=row.user_key,
                time=row.time,
                variant=CANDIDATE if row.deployment == release.deployment else CHAMPION,
                propensity=1.0,
                values={LIKE: min(max(reactions.get((row.request_id, row.user_key), 0.0), 0.0), 1.0)},
            )
            for row in connection.execute(asked)
        ]


def breaker(engine: Engine, release: Release) -> str:
    """Why a gateway's breaker opened on this release, empty where none did."""
    query = select(TRIALS.c.reason).where(TRIALS.c.kind == "breaker", TRIALS.c.request_id == release.release)
    with reading(engine, "releases") as connection:
        return connection.scalar(query) or ""


def _trials(connection: Connection, release: Release) -> list[tuple[str, str, float]]:
    kind = "shadow" if release.state is State.SHADOW else "failure"
    query = select(TRIALS.c.request_id, TRIALS.c.reason, TRIALS.c.latency_s).where(
        TRIALS.c.kind == kind, TRIALS.c.deployment == release.deployment, TRIALS.c.time >= release.since
    )
    return [(row.request_id, row.reason, row.latency_s) for row in connection.execute(query.order_by(TRIALS.c.time))]
