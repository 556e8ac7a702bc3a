"""Events for tests, and what a database holds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from components.events.database import reading
from components.events.schema import ACCEPTED, FINISHED, METADATA, Accepted, Deployment, Feedback, Finished, Outcome

Row = dict[str, Any]


def accepted(identifier: str, *, at: float = 1.0, user: str = "u", variant: str = "control") -> Accepted:
    return Accepted(
        request_id=identifier,
        time=at,
        user_key=user,
        line="text",
        deployment="text-1",
        model="atelier-text",
        experiment="colours",
        variant=variant,
        propensity=0.5,
    )


def finished(identifier: str, *, at: float = 2.0, prompt: str = "a fox", output: str = "fox: animal") -> Finished:
    return Finished(
        request_id=identifier, time=at, latency_s=0.5, outcome=Outcome.OK, status=200, prompt=prompt, output=output
    )


def like(identifier: str, key: str, *, at: float = 3.0, user: str = "u", value: float = 1.0) -> Feedback:
    return Feedback(request_id=identifier, time=at, key=key, user_key=user, kind="like", value=value)


DEPLOYMENT = Deployment(
    deployment="text-1", line="text", digest="a" * 64, model="atelier-text", version="3", bento="text:1", time=0.5
)


def read(url: str, table: str) -> list[Row]:
    """All rows of a table, oldest first."""
    return _rows(url, select(METADATA.tables[table]).order_by(METADATA.tables[table].c.time))


def requests(url: str) -> list[Row]:
    """Requests with how they finished, None in all that where they did not, oldest first."""
    ended = [c for c in FINISHED.c if c.name not in ("request_id", "time")]
    same = ACCEPTED.c.request_id == FINISHED.c.request_id
    return _rows(url, select(ACCEPTED, *ended).join(FINISHED, same, isouter=True).order_by(ACCEPTED.c.time))


def _rows(url: str, query: Any) -> list[Row]:
    with reading(url) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
