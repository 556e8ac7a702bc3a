"""What users thought of the text line's answers, streamed from the events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import ColumnElement, select

from components.events.database import reading
from components.events.schema import ACCEPTED, ANSWERED_BY, FEEDBACK, FINISHED, LIKE
from components.events.window import BATCH, standing
from components.learning.harvest import Judged


def judged(url: str, since: float, until: float, segment: Mapping[str, str] | None = None) -> Iterator[Judged]:
    """Answers accepted in since <= time < until with the last reaction of the user who asked, in the order of time.

    Of requests of one message alone: what others said before, or a system prompt, would be missing from the pair.
    `segment`: of such users alone, as plan: paid.
    """
    within: tuple[ColumnElement[bool], ...] = (
        ACCEPTED.c.time >= since,
        ACCEPTED.c.time < until,
        ACCEPTED.c.line == "text",
        ACCEPTED.c.messages == 1,
    )
    # Both are of few characters, none of which JSON writes otherwise.
    within += tuple(
        ACCEPTED.c.segments.contains(f'"{key}": "{value}"', autoescape=True) for key, value in (segment or {}).items()
    )
    last = standing(*within, FEEDBACK.c.kind == LIKE)
    columns = (*(ACCEPTED.c[n] for n in ("request_id", "time", "user_key")), ANSWERED_BY.label("deployment"))
    query = (
        select(*columns, FINISHED.c.prompt, FINISHED.c.output, last.c.value)
        .join(FINISHED, FINISHED.c.request_id == ACCEPTED.c.request_id)
        .join(last, last.c.request_id == ACCEPTED.c.request_id)
        .where(last.c.rank == 1, FINISHED.c.outcome == "ok")
        .order_by(ACCEPTED.c.time)
    )
    with reading(url) as connection:
        for row in connection.execution_options(yield_per=BATCH).execute(query).mappings():
            yield Judged(**{name: row[name] for name in row if name != "value"}, liked=row["value"] > 0)
