"""A window of events, however many: counts made by the database, rows sampled by hash, long results streamed.

Nothing here returns more rows than asked for, or holds more than a batch of a stream. A sample is the requests with
the smallest MD5 of their id: the same one for the same events, on SQLite and PostgreSQL. Times are epoch seconds;
windows are since <= time < until. Raises `DatabaseError` where the database is absent, locked or fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import CTE, Connection, Integer, Select, Subquery, and_, case, cast, func, or_, select

from components.events.database import reading
from components.events.schema import ACCEPTED, ANSWERED_BY, FEEDBACK, FINISHED, KINDS, LIKE, NEWEST, Outcome

Row = dict[str, Any]
BATCH = 1000
FOREVER = 1e12  # seconds: a window that never closes
# When a reaction reached a gateway, which no client can date back; rows of old gateways only say when it was made.
received = case((FEEDBACK.c.received > 0, FEEDBACK.c.received), else_=FEEDBACK.c.time)


def counts(url: str, since: float, until: float, slices: int) -> tuple[float, float, list[Row]]:
    """(time of the first request, seconds per slice, counts by line, deployment, slice, outcome and status).

    A request counts for the deployment that answered it.

    Slices of at least a second divide the time between first and last request. A row has `requests`, the number and
    sum of known batch sizes (`batched`, `batch_sum`), `completion_tokens`, and `backwards`: requests that ended before
    they were accepted, as a clock that jumps makes them.
    """
    within = (ACCEPTED.c.time >= since, ACCEPTED.c.time < until)
    with reading(url) as connection:
        first, last = connection.execute(
            select(func.min(ACCEPTED.c.time), func.max(ACCEPTED.c.time)).where(*within)
        ).one()
        if first is None:
            return since, 1.0, []
        width = max((last - first) / slices, 1.0)
        query = _counts(_whole(connection, (ACCEPTED.c.time - first) / width)).where(*within)
        return first, width, [dict(row) for row in connection.execute(query).mappings()]


def _counts(slice_: Any) -> Select[Any]:
    answered = ANSWERED_BY.label("deployment")
    keys = (ACCEPTED.c.line, answered, slice_.label("slice"), FINISHED.c.outcome, FINISHED.c.status)
    return (
        select(
            *keys,
            func.count().label("requests"),
            func.count(case((FINISHED.c.batch_size > 0, 1))).label("batched"),
            func.coalesce(func.sum(FINISHED.c.batch_size), 0).label("batch_sum"),
            func.coalesce(func.sum(FINISHED.c.completion_tokens), 0).label("completion_tokens"),
            func.count(case((FINISHED.c.time < ACCEPTED.c.time, 1))).label("backwards"),
        )
        .join(FINISHED, ACCEPTED.c.request_id == FINISHED.c.request_id, isouter=True)
        .group_by(*keys)
    )


def by_deployment(url: str, since: float, until: float) -> list[Row]:
    """Of each deployment that answered on a line: `requests`, likes and dislikes (`reactions`, of which `liked`), and
    of good answers the tokens, in as many as have them (`counted`); the busiest first."""
    within = (ACCEPTED.c.time >= since, ACCEPTED.c.time < until)
    last = standing(*within, FEEDBACK.c.kind == LIKE)
    well, answered = FINISHED.c.outcome == Outcome.OK, ANSWERED_BY.label("deployment")
    query = (
        select(
            ACCEPTED.c.line,
            answered,
            func.count().label("requests"),
            func.count(last.c.value).label("reactions"),
            func.count(case((last.c.value > 0, 1))).label("liked"),
            func.count(case((and_(well, FINISHED.c.completion_tokens > 0), 1))).label("counted"),
            *(
                func.coalesce(func.sum(case((well, FINISHED.c[kind]))), 0).label(kind)
                for kind in ("prompt_tokens", "completion_tokens")
            ),
        )
        .join(FINISHED, ACCEPTED.c.request_id == FINISHED.c.request_id, isouter=True)
        .join(last, and_(last.c.request_id == ACCEPTED.c.request_id, last.c.rank == 1), isouter=True)
        .where(*within)
        .group_by(ACCEPTED.c.line, answered)
        .order_by(func.count().desc(), answered)
    )
    with reading(url) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _whole(connection: Connection, value: Any) -> Any:
    """A positive number without its fraction: CAST rounds on PostgreSQL, and not every SQLite has floor."""
    return cast(value if connection.dialect.name == "sqlite" else func.floor(value), Integer)


def later(url: str, time: float) -> int:
    """Requests accepted at or after `time`."""
    with reading(url) as connection:
        return connection.execute(select(func.count()).where(ACCEPTED.c.time >= time)).scalar_one()


def sample(url: str, since: float, until: float, *, line: str, rows: int, deployment: str | None = None) -> list[Row]:
    """At most `rows` requests of a line with how they finished, in order of their hash: a prefix is a sample too."""
    order, same = func.md5(ACCEPTED.c.request_id), ACCEPTED.c.request_id == FINISHED.c.request_id
    within = [ACCEPTED.c.time >= since, ACCEPTED.c.time < until, ACCEPTED.c.line == line]
    # Sampled before it is joined: the texts of requests that are not in the sample are never read.
    chosen = select(ACCEPTED.c.request_id).where(*within).order_by(order).limit(rows)
    if deployment is not None:
        chosen = chosen.join(FINISHED, same, isouter=True).where(ANSWERED_BY == deployment)  # noqa: SIM300 - a column
    # With who answered and how they finished, None in all that where they have not.
    accepted = [c for c in ACCEPTED.c if c.name != "deployment"]
    ended = [c for c in FINISHED.c if c.name not in ("request_id", "time", "answered_by")]
    query = (
        select(*accepted, ANSWERED_BY.label("deployment"), *ended)
        .join(FINISHED, same, isouter=True)
        .where(ACCEPTED.c.request_id.in_(chosen))
        .order_by(order)
    )
    with reading(url) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def first_request(url: str, deployment: str, since: float) -> float | None:
    """When a deployment was first asked anything at or after `since`, or None."""
    query = select(ACCEPTED.c.time).where(ACCEPTED.c.deployment == deployment, ACCEPTED.c.time >= since)
    with reading(url) as connection:
        return connection.execute(query.order_by(ACCEPTED.c.time).limit(1)).scalar_one_or_none()


def reactions(url: str, since: float, until: float) -> tuple[int, int]:
    """(likes and dislikes, of which likes) of the window's requests by who asked, the last one of each response."""
    last = standing(ACCEPTED.c.time >= since, ACCEPTED.c.time < until, FEEDBACK.c.kind == LIKE)
    with reading(url) as connection:
        query = select(func.count(), func.count(case((last.c.value > 0, 1)))).where(last.c.rank == 1)
        total, liked = connection.execute(query).one()
        return total, liked


def standing(*within: Any) -> Subquery:
    """Reactions of those who asked, each with its `rank` among those of its kind to its response: 1 is what counts."""
    newest = func.row_number().over(
        partition_by=(FEEDBACK.c.request_id, FEEDBACK.c.kind), order_by=[column.desc() for column in NEWEST]
    )
    own = and_(ACCEPTED.c.request_id == FEEDBACK.c.request_id, ACCEPTED.c.user_key == FEEDBACK.c.user_key)
    columns = (FEEDBACK.c.request_id, FEEDBACK.c.kind, FEEDBACK.c.value)
    return select(*columns, newest.label("rank")).join(ACCEPTED, own).where(*within).subquery()


def reactions_to(url: str, request_ids: Sequence[str]) -> list[Row]:
    """Likes and dislikes of these responses, oldest first."""
    rows: list[Row] = []
    with reading(url) as connection:
        for part in _parts(request_ids):
            query = select(FEEDBACK).where(FEEDBACK.c.request_id.in_(part), FEEDBACK.c.kind == LIKE)
            rows += [dict(row) for row in connection.execute(query.order_by(*NEWEST)).mappings()]
    return rows


def count_accepted(url: str, request_ids: Sequence[str], since: float, until: float) -> int:
    """How many of these requests were accepted in the window."""
    within = (ACCEPTED.c.time >= since, ACCEPTED.c.time < until)
    with reading(url) as connection:
        queries = [select(func.count()).where(ACCEPTED.c.request_id.in_(part), *within) for part in _parts(request_ids)]
        return sum(connection.execute(query).scalar_one() for query in queries)


def entered(until: float, attribution_s: float, *inside: Any) -> CTE:
    """Of each user, the `time` of their first request that is `inside`, and when their attribution window `closes`:
    what comes later counts for nothing. One that is open at `until` closes then, for what is seen so far."""
    first = func.min(ACCEPTED.c.time)
    closes = case((first + attribution_s < until, first + attribution_s), else_=until)
    query = select(ACCEPTED.c.user_key, first.label("time"), closes.label("closes"))
    return query.where(*inside, ACCEPTED.c.time < until).group_by(ACCEPTED.c.user_key).cte()


def experiment_requests(
    url: str, experiment: str, line: str, until: float, attribution_s: float = FOREVER
) -> Iterator[Row]:
    """Requests inside an experiment, and of its users those on `line` from before they entered, oldest first.

    Of those inside, only what was asked, ended and said before the user's window `closes`, so that a window that has
    closed shows the same for ever; of those before, only what was said until they entered.
    A stream, each with how it ended (None where it has not; of its output the first character that is not white space,
    of its prompt the length) and with what its user last said of each kind, None where nothing.
    """
    inside = ACCEPTED.c.experiment == experiment
    users = entered(until, attribution_s, inside)
    mine = ACCEPTED.c.user_key == users.c.user_key
    seen = case((inside, users.c.closes), else_=users.c.time)  # before: nothing that a variant may have coloured
    counted = (ACCEPTED.c.time < seen, or_(inside, ACCEPTED.c.line == line))
    last = standing(mine, *counted, received < seen)
    each = [func.max(case((last.c.kind == kind, last.c.value))).label(kind) for kind in KINDS]
    reactions = select(last.c.request_id, *each).where(last.c.rank == 1).group_by(last.c.request_id).subquery()
    shown = func.substr(func.trim(FINISHED.c.output, " \n\t"), 1, 1).label("output")
    names = ("request_id", "user_key", "time", "experiment", "variant", "propensity", "segments")
    length = func.length(FINISHED.c.prompt).label("prompt_length")
    how = [FINISHED.c[name] for name in ("latency_s", "outcome", "cut")]
    columns = [ACCEPTED.c[name] for name in names] + [*how, shown, length]
    ended = and_(ACCEPTED.c.request_id == FINISHED.c.request_id, FINISHED.c.time < seen)
    query = (
        select(*columns, users.c.closes, *(reactions.c[kind] for kind in KINDS))
        .join(users, mine)
        .join(FINISHED, ended, isouter=True)
        .join(reactions, ACCEPTED.c.request_id == reactions.c.request_id, isouter=True)
        .where(*counted)
        .order_by(ACCEPTED.c.time)
    )
    with reading(url) as connection:
        for row in connection.execution_options(yield_per=BATCH).execute(query).mappings():
            yield dict(row)


def after_closing(url: str, experiment: str, until: float, attribution_s: float) -> tuple[int, int]:
    """(requests, reactions to earlier ones) of an experiment's users that came when their windows had closed."""
    closes = func.min(ACCEPTED.c.time).over(partition_by=ACCEPTED.c.user_key) + attribution_s
    names = (ACCEPTED.c.request_id, ACCEPTED.c.user_key, ACCEPTED.c.time)
    inside = (ACCEPTED.c.experiment == experiment, ACCEPTED.c.time < until)
    seen = select(*names, closes.label("closes")).where(*inside).subquery()
    own = and_(seen.c.request_id == FEEDBACK.c.request_id, seen.c.user_key == FEEDBACK.c.user_key)
    late = select(func.count()).select_from(seen).join(FEEDBACK, own).where(seen.c.time < seen.c.closes)
    with reading(url) as connection:
        requests = select(func.count()).where(seen.c.time >= seen.c.closes)
        reactions = late.where(received >= seen.c.closes, received < until)
        return connection.execute(requests).scalar_one(), connection.execute(reactions).scalar_one()


def written_with(url: str, experiment: str, variant: str, adapter: str) -> tuple[int, int]:
    """(answers to a variant's users, of which the adapter wrote)."""
    ours = func.count(case((FINISHED.c.adapter == adapter, 1)))
    query = (
        select(func.count(), ours)
        .join(FINISHED, FINISHED.c.request_id == ACCEPTED.c.request_id)
        .where(ACCEPTED.c.experiment == experiment, ACCEPTED.c.variant == variant, FINISHED.c.outcome == Outcome.OK)
    )
    with reading(url) as connection:
        total, written = connection.execute(query).one()
        return total, written


def tallies(url: str, experiment: str, kind: str, unit: float, until: float) -> dict[str, tuple[float, int]]:
    """By variant, the sum over its users of their mean reaction of a kind, in `unit`s capped at 1, and their number.

    Of requests before `until`; no reaction is 0. Whom a change of weights moved counts in each variant that they saw.
    """
    inside = (ACCEPTED.c.experiment == experiment, ACCEPTED.c.time < until)
    last = standing(*inside, FEEDBACK.c.kind == kind)
    share = func.coalesce(last.c.value, 0.0) / unit
    bounded = case((share > 1, 1.0), (share < 0, 0.0), else_=share)
    each = (
        select(ACCEPTED.c.variant, func.avg(bounded).label("mean"))
        .join(last, and_(last.c.request_id == ACCEPTED.c.request_id, last.c.rank == 1), isouter=True)
        .where(*inside)
        .group_by(ACCEPTED.c.variant, ACCEPTED.c.user_key)
        .subquery()
    )
    query = select(each.c.variant, func.sum(each.c.mean), func.count()).group_by(each.c.variant)
    with reading(url) as connection:
        return {variant: (float(total), users) for variant, total, users in connection.execute(query)}


def _parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
