"""Answers of production that are computed again: those that wait, what came of the others, and their end.

An answer waits with all that it takes to compute it. Once it is judged only the verdict stays, unless that is a fault,
whose evidence somebody will want to see; what nobody judged within a week is given up. Times are epoch seconds.
Raises `DatabaseError` where the database is absent or fails.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from sqlalchemy import Engine, func, select, update

from components.config import Line
from components.events.database import Database, reading, writing
from components.events.schema import RECHECKS

Row = dict[str, Any]
DAY = 86_400.0
WEEK = 7 * DAY
ENOUGH_TOKENS = 500  # from which on the errors of answers say something together
RECENT = 1000  # judged answers that a summary looks at, at most


class Verdict(StrEnum):
    """`SAME`: as trained, but for rounding. `FAULT`: not. `UNKNOWN`: nothing here to compute it with."""

    SAME = "same"
    FAULT = "fault"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Judgement:
    """`why`: in words. `error`, `rounding`: of a text answer, sums over its `tokens` of the squared error (nats) of
    what served, and of that of the rounded model."""

    verdict: Verdict
    why: str
    tokens: int = 0
    error: float = 0.0
    rounding: float = 0.0


@dataclass(frozen=True)
class Summary:
    """What came of a line's answers within a day; a fault counts until an answer that its deployment gave after it was
    found has passed. `error`: as a multiple of what rounding costs, the lesser of a week's answers and of the newest
    ones, of the deployment where it is greatest; None where they are too few, and for pictures, which are judged one
    by one."""

    counts: Mapping[Verdict, int]
    waiting: int
    error: float | None
    fault: str  # the newest one in words, with its request; empty for none


def waiting(engine: Engine, line: Line, limit: int) -> list[Row]:
    """Oldest first, at most `limit`."""
    query = select(RECHECKS).where(RECHECKS.c.line == line, RECHECKS.c.verdict == "")
    with reading(engine, "rechecks") as connection:
        return [dict(row) for row in connection.execute(query.order_by(RECHECKS.c.time).limit(limit)).mappings()]


def record(engine: Engine, request_id: str, judgement: Judgement, now: float) -> None:
    values = {"verdict": judgement.verdict.value, "judged": now, "measured": json.dumps(_measured(judgement))}
    if judgement.verdict is not Verdict.FAULT:
        values |= {"job": "", "answer": ""}
    with writing(engine, f"recheck of {request_id}") as connection:
        connection.execute(update(RECHECKS).where(RECHECKS.c.request_id == request_id).values(values))


def give_up(engine: Engine, now: float) -> int:
    """Forget what has waited for a week; returns how many that were."""
    old = (RECHECKS.c.verdict == "", RECHECKS.c.time < now - WEEK)
    measured = json.dumps(_measured(Judgement(Verdict.UNKNOWN, "nobody computed it within a week")))
    values = {"verdict": Verdict.UNKNOWN.value, "judged": now, "measured": measured, "job": "", "answer": ""}
    with writing(engine, "rechecks") as connection:
        return connection.execute(update(RECHECKS).where(*old).values(values)).rowcount


def summary(database: Database, line: Line, now: float, gone: Collection[str] = ()) -> Summary:
    """Of a line's answers that were judged before `now`, but for those of deployments that are `gone`."""
    judged = (RECHECKS.c.line == line, RECHECKS.c.verdict != "", RECHECKS.c.judged >= now - WEEK)
    served = RECHECKS.c.deployment.not_in([*gone])
    names = ("request_id", "time", "deployment", "adapter", "verdict", "judged", "measured")
    columns = [RECHECKS.c[name] for name in names]
    open_ = select(func.count()).where(RECHECKS.c.line == line, RECHECKS.c.verdict == "")
    with reading(database, "rechecks") as connection:
        query = select(*columns).where(*judged, served).order_by(RECHECKS.c.judged.desc()).limit(RECENT)
        week = [dict(row) | json.loads(row["measured"]) for row in connection.execute(query).mappings()]
        still = connection.execute(open_).scalar_one()
    enough = ENOUGH_TOKENS if line == "text" else 0
    day = [row for row in week if row["judged"] >= now - DAY and not _is_over(row, week, enough)]
    faults = (f"{row['request_id']}: {row['why']}" for row in day if row["verdict"] == Verdict.FAULT)
    return Summary(
        counts={verdict: sum(row["verdict"] == verdict for row in day) for verdict in Verdict},
        waiting=still,
        error=max(_errors(week), default=None),
        fault=next(faults, ""),
    )


def _is_over(fault: Row, rows: Sequence[Row], enough: int) -> bool:
    """Whether answers that its model has given since it was found have passed, with `enough` tokens together."""
    model = (fault["deployment"], fault["adapter"])
    since = [row for row in rows if row["time"] > fault["judged"] and (row["deployment"], row["adapter"]) == model]
    passed = [row["tokens"] for row in since if row["verdict"] == Verdict.SAME]
    return fault["verdict"] == Verdict.FAULT and bool(passed) and sum(passed) >= enough


def _errors(rows: Sequence[Row]) -> Iterator[float]:
    """Of each deployment with enough tokens, its answers' error as a multiple of what rounding costs.

    All of them tell what few do not; the newest alone tell when that is over, long before a week is.
    """
    for deployment in {row["deployment"] for row in rows}:
        own = [row for row in rows if row["deployment"] == deployment and row["rounding"]]
        before = accumulate((row["tokens"] for row in own), initial=0)
        newest = [row for row, tokens in zip(own, before, strict=False) if tokens < ENOUGH_TOKENS]
        if sum(row["tokens"] for row in own) >= ENOUGH_TOKENS:
            yield min(_error(own), _error(newest))


def _error(rows: Sequence[Row]) -> float:
    return math.sqrt(sum(row["error"] for row in rows) / sum(row["rounding"] for row in rows))


def _measured(judgement: Judgement) -> Row:
    return {name: value for name, value in vars(judgement).items() if name != "verdict"}
