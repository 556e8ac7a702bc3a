"""What waits to be computed again, what is kept of it afterwards, and what all of it says together."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from components.config import Line
from components.events import rechecks
from components.events.database import opened, reading
from components.events.rechecks import DAY, WEEK, Judgement, Verdict
from components.events.schema import RECHECKS, Sampled
from components.events.store import commit

NOW = 1e6


def sampled(identifier: str, at: float = NOW, line: Line = "text") -> Sampled:
    return Sampled(request_id=identifier, time=at, line=line, deployment="text-1", job='{"a": 1}', answer='{"b": 2}')


def texts(url: str) -> dict[str, tuple[Any, ...]]:
    with reading(url) as connection:
        rows = connection.execute(select(RECHECKS.c.request_id, RECHECKS.c.job, RECHECKS.c.answer))
        return {row.request_id: (row.job, row.answer) for row in rows}


def test_what_people_wrote_goes_with_the_verdict_unless_it_is_a_fault(url: str) -> None:
    with opened(url) as engine:
        commit(engine, [sampled(name, at) for name, at in (("b", NOW + 1), ("a", NOW), ("old", NOW - 2 * WEEK))])
        commit(engine, [sampled("i", line="image")])
        assert rechecks.give_up(engine, NOW) == 1
        assert [row["request_id"] for row in rechecks.waiting(engine, "text", 9)] == ["a", "b"]
        assert len(rechecks.waiting(engine, "text", 1)) == 1
        rechecks.record(engine, "a", Judgement(Verdict.SAME, "fine", 300, 2.0, 1.0), NOW)
        rechecks.record(engine, "b", Judgement(Verdict.FAULT, "another token", 300, 2.0, 1.0), NOW + 2)
        assert rechecks.waiting(engine, "text", 9) == []
    kept = ('{"a": 1}', '{"b": 2}')
    assert texts(url) == {"a": ("", ""), "old": ("", ""), "b": kept, "i": kept}
    seen = rechecks.summary(url, "text", NOW + 3)
    assert seen.counts == {Verdict.SAME: 1, Verdict.FAULT: 1, Verdict.UNKNOWN: 1} and seen.waiting == 0
    assert seen.error == pytest.approx(2**0.5) and seen.fault == "b: another token"


def test_a_bad_deployment_is_not_hidden_by_a_good_one(url: str) -> None:
    with opened(url) as engine:
        commit(engine, [sampled("good"), sampled("bad").model_copy(update={"deployment": "text-2"})])
        rechecks.record(engine, "good", Judgement(Verdict.SAME, "fine", 9000, 9.0, 9.0), NOW)
        rechecks.record(engine, "bad", Judgement(Verdict.SAME, "fine", 600, 4.0, 1.0), NOW)
    assert rechecks.summary(url, "text", NOW + 3 * DAY).error == pytest.approx(2)


def test_few_tokens_say_nothing_and_a_day_is_over(url: str) -> None:
    with opened(url) as engine:
        commit(engine, [sampled("a")])
        rechecks.record(engine, "a", Judgement(Verdict.SAME, "fine", 30, 2.0, 1.0), NOW)
    assert rechecks.summary(url, "text", NOW).error is None
    assert sum(rechecks.summary(url, "text", NOW + 2 * DAY).counts.values()) == 0
    assert rechecks.summary(url, "image", NOW).waiting == 0
