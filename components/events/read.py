"""The reading side of events: one response's rows, and deployments.

Synchronous and read-only but for `record_deployment`; raises `DatabaseError` where the database is absent or fails.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from components.events.database import DatabaseError, insert_new, opened, reading, writing
from components.events.schema import ACCEPTED, DEPLOYMENTS, FEEDBACK, FINISHED, Deployment

Row = dict[str, Any]


def request(url: str, request_id: str) -> Row | None:
    """One accepted request (the response's id) with its deployment, or None."""
    return next(iter(_rows(url, select(ACCEPTED).where(ACCEPTED.c.request_id == request_id))), None)


def finished(url: str, request_id: str) -> Row | None:
    """How one request finished, or None while it has not."""
    return next(iter(_rows(url, select(FINISHED).where(FINISHED.c.request_id == request_id))), None)


def feedback_on(url: str, request_id: str) -> list[Row]:
    """Reactions to one response, oldest first."""
    return _rows(url, select(FEEDBACK).where(FEEDBACK.c.request_id == request_id).order_by(FEEDBACK.c.time))


def record_deployment(url: str, deployment: Deployment) -> None:
    """Store what a deployment id stands for; the same record twice is one, another record under the id is refused."""
    with opened(url) as engine, writing(engine, f"deployment {deployment.deployment}") as connection:
        connection.execute(insert_new(engine, DEPLOYMENTS), deployment.model_dump())
    recorded = get_deployment(url, deployment.deployment)
    # The time of the first recording stays; everything else must agree.
    if recorded is None or recorded.model_copy(update={"time": deployment.time}) != deployment:
        raise DatabaseError(f"deployment {deployment.deployment} already stands for {recorded}")


def get_deployment(url: str, deployment: str) -> Deployment | None:
    """What a deployment id stands for, or None."""
    rows = _rows(url, select(DEPLOYMENTS).where(DEPLOYMENTS.c.deployment == deployment))
    return Deployment(**rows[0]) if rows else None


def deployments(url: str) -> list[Row]:
    """What every deployment id stands for, oldest first."""
    return _rows(url, select(DEPLOYMENTS).order_by(DEPLOYMENTS.c.time))


def _rows(url: str, query: Any) -> list[Row]:
    with reading(url) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
