"""What users thought of the text line's answers, streamed from the events."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import and_, func, select

from components.events.database import reading
from components.events.schema import ACCEPTED, FEEDBACK, FINISHED, LIKE, NEWEST
from components.events.window import BATCH
from components.learning.harvest import Judged


def judged(url: str, since: float, until: float) -> Iterator[Judged]:
    """Answers accepted in since <= time < until with the last reaction of the user who asked; others' do not count."""
    newest = func.row_number().over(partition_by=FEEDBACK.c.request_id, order_by=[column.desc() for column in NEWEST])
    last = (
        select(FEEDBACK.c.request_id, FEEDBACK.c.value, newest.label("rank"))
        .join(
            ACCEPTED, and_(ACCEPTED.c.request_id == FEEDBACK.c.request_id, ACCEPTED.c.user_key == FEEDBACK.c.user_key)
        )
        .where(FEEDBACK.c.kind == LIKE, ACCEPTED.c.line == "text")
        .where(ACCEPTED.c.time >= since, ACCEPTED.c.time < until)
        .subquery()
    )
    columns = (*(ACCEPTED.c[n] for n in ("request_id", "time", "user_key", "deployment")), FINISHED.c.prompt)
    query = (
        select(*columns, FINISHED.c.output, last.c.value)
        .join(FINISHED, FINISHED.c.request_id == ACCEPTED.c.request_id)
        .join(last, last.c.request_id == ACCEPTED.c.request_id)
        .where(last.c.rank == 1, FINISHED.c.outcome == "ok")
        .order_by(ACCEPTED.c.time)
    )
    with reading(url) as connection:
        for row in connection.execution_options(yield_per=BATCH).execute(query).mappings():
            yield Judged(**{name: row[name] for name in row if name != "value"}, liked=row["value"] > 0)
