"""What waits to be computed again, what is kept of it afterwards, and what all of it says together."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select

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


def answered(engine: Engine, identifier: str, at: float, judgement: Judgement, judged: float) -> None:
    commit(engine, [sampled(identifier, at)])
    rechecks.record(engine, identifier, judgement, judged)


def test_a_fault_is_over_once_an_answer_given_since_it_was_found_passes(url: str) -> None:
    fine = Judgement(Verdict.SAME, "fine")
    with opened(url) as engine:
        answered(engine, "a", NOW, Judgement(Verdict.FAULT, "another token"), NOW + 60)
        answered(engine, "b", NOW + 50, fine, NOW + 60)  # given before anybody knew
        commit(engine, [sampled("c", NOW + 70).model_copy(update={"deployment": "text-2"})])
        rechecks.record(engine, "c", fine, NOW + 80)
    assert rechecks.summary(url, "text", NOW + 90).counts[Verdict.FAULT] == 1
    with opened(url) as engine:
        answered(engine, "d", NOW + 70, fine, NOW + 80)
    seen = rechecks.summary(url, "text", NOW + 90)
    assert (seen.counts[Verdict.FAULT], seen.counts[Verdict.SAME], seen.fault) == (0, 3, "")
    with opened(url) as engine:
        answered(engine, "e", NOW + 81, Judgement(Verdict.FAULT, "again"), NOW + 85)
    assert rechecks.summary(url, "text", NOW + 90).fault == "e: again"


def test_what_a_deployment_that_is_gone_did_counts_no_longer(url: str) -> None:
    with opened(url) as engine:
        answered(engine, "a", NOW, Judgement(Verdict.FAULT, "another token", 600, 9.0, 1.0), NOW)
    assert rechecks.summary(url, "text", NOW).error == pytest.approx(3)
    seen = rechecks.summary(url, "text", NOW, {"text-1"})
    assert (seen.counts[Verdict.FAULT], seen.error, seen.fault) == (0, None, "")


def test_errors_are_over_once_the_newest_answers_are_fine(url: str) -> None:
    with opened(url) as engine:
        answered(engine, "bad", NOW, Judgement(Verdict.SAME, "fine", 5000, 45.0, 5.0), NOW)
    assert rechecks.summary(url, "text", NOW).error == pytest.approx(3)
    with opened(url) as engine:
        answered(engine, "few", NOW + 1, Judgement(Verdict.SAME, "fine", 400, 0.4, 0.4), NOW + 1)
    assert rechecks.summary(url, "text", NOW + 2).error == pytest.approx((45.4 / 5.4) ** 0.5)
    with opened(url) as engine:
        answered(engine, "more", NOW + 2, Judgement(Verdict.SAME, "fine", 400, 0.4, 0.4), NOW + 2)
    assert rechecks.summary(url, "text", NOW + 3).error == pytest.approx(1)
