"""What the events database says of a candidate since its last move. Reads only, and nothing that users wrote."""

from __future__ import annotations

import time
from typing import Any, cast

from sqlalchemy import and_, select

from components.config import Line
from components.config import Release as Rules
from components.events.database import Database, reading
from components.events.schema import ACCEPTED, FEEDBACK, FINISHED, LIKE, TRIALS, CallKind, Outcome, Reason
from components.events.window import entered, received, standing
from components.experiments.exposures import Exposure, by_closing, fold
from components.releases.decide import CANDIDATE, CHAMPION, Call, Evidence, weigh
from components.releases.machine import State
from components.releases.schema import Release


def gather(database: Database, candidate: Release, champion: Release | None, rules: Rules) -> Evidence:
    """All that is known of a candidate on trial in its present state."""
    now, window = time.time(), float(rules.attribution_seconds)
    seen = exposures(database, candidate, champion.deployment if champion else None, now, window)
    return weigh(
        candidate.state,
        now - candidate.since,
        calls(database, candidate, rules.slow_seconds[cast(Line, candidate.line)], now),
        by_closing(fold(seen, [(0.0, {CANDIDATE: 1.0, CHAMPION: 1.0})]), window, now),
        breaker(database, candidate),
        rules.alpha,
    )


def calls(database: Database, release: Release, slow_seconds: float, now: float) -> list[Call]:
    """The candidate's calls since its last move: in shadow the copies, later the users' own.

    One that has lasted too long is slow whether or not it has ended, and so is one that its user gave up by then: what
    hangs until users leave, or dies with its process, ends in no other way. One at which the champion failed alike says
    nothing.
    """
    shadow = release.state is State.SHADOW
    of_kind = select(TRIALS).where(
        TRIALS.c.kind == (CallKind.SHADOW if shadow else CallKind.FAILURE),
        TRIALS.c.deployment == release.deployment,
        TRIALS.c.time >= release.since,
    )
    with reading(database, "releases") as connection:
        trials = connection.execute(of_kind.order_by(TRIALS.c.time)).all()
        if shadow:
            well = ("", Reason.SLOW)
            return [Call(row.reason not in well, row.latency_s > slow_seconds, row.time, row.time) for row in trials]
        # In the gateway, slow means far above the champion; here the line's own bound holds.
        made_good = {row.request_id: row.time for row in trials if row.reason not in (Reason.SLOW, Reason.BOTH)}
        alike = {row.request_id for row in trials if row.reason == Reason.BOTH}
        query = (
            select(ACCEPTED.c.request_id, ACCEPTED.c.time, FINISHED.c.outcome, FINISHED.c.status, FINISHED.c.latency_s)
            .join(FINISHED, ACCEPTED.c.request_id == FINISHED.c.request_id, isouter=True)
            .where(ACCEPTED.c.deployment == release.deployment, ACCEPTED.c.time >= release.since)
            .order_by(ACCEPTED.c.time)
        )
        return [
            _call(row, made_good.get(row.request_id), slow_seconds, now)
            for row in connection.execute(query)
            if row.request_id not in alike
        ]


def _call(row: Any, made_good: float | None, slow_seconds: float, now: float) -> Call:
    """`made_good`: when the champion began to answer instead."""
    answered = row.outcome in (Outcome.OK, Outcome.ERROR)
    lasted = now - row.time if row.latency_s is None else row.latency_s
    failed = True if made_good is not None else row.status >= 500 if answered else None
    slow = lasted > slow_seconds if answered or lasted > slow_seconds else None
    ended = row.time + lasted
    return Call(failed, slow, ended if made_good is None else made_good, min(ended, row.time + slow_seconds))


def exposures(
    database: Database, release: Release, champion: str | None, until: float, attribution_s: float
) -> list[Exposure]:
    """The line's requests since the release's last move, by who was asked, and whether their users liked them; of each
    user, what they asked and said within their attribution window."""
    both = (ACCEPTED.c.deployment.in_([release.deployment, champion or ""]), ACCEPTED.c.time >= release.since)
    users = entered(until, attribution_s, *both)
    mine, requests = ACCEPTED.c.user_key == users.c.user_key, (*both, ACCEPTED.c.time < users.c.closes)
    last = standing(mine, *requests, FEEDBACK.c.kind == LIKE, received < users.c.closes)
    query = (
        select(ACCEPTED.c.user_key, ACCEPTED.c.time, ACCEPTED.c.deployment, last.c.value)
        .join(users, mine)
        .join(last, and_(last.c.request_id == ACCEPTED.c.request_id, last.c.rank == 1), isouter=True)
        .where(*requests)
    )
    with reading(database, "releases") as connection:
        return [
            Exposure(
                user_key=row.user_key,
                time=row.time,
                variant=CANDIDATE if row.deployment == release.deployment else CHAMPION,
                propensity=1.0,
                values={LIKE: min(max(row.value or 0.0, 0.0), 1.0)},
            )
            for row in connection.execute(query)
        ]


def breaker(database: Database, release: Release) -> str:
    """Why a gateway's breaker opened on this release, empty where none did."""
    query = select(TRIALS.c.reason).where(TRIALS.c.kind == CallKind.BREAKER, TRIALS.c.request_id == release.release)
    with reading(database, "releases") as connection:
        return connection.scalar(query) or ""
