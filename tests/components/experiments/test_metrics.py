"""Metrics beside the one that decides, from rows as the events' reader gives them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from components.events.schema import KINDS
from components.experiments.metrics import EVERYONE, Reading, fold, read, scaled
from tests.components.experiments.examples import experiment

SEGMENTS = ("plan=free", "plan=paid", "plan=other")


def row(user: str, variant: str = "control", *, at: float = 1.0, plan: str = "free", **said: float) -> dict[str, Any]:
    """One request; kinds that are not named are None, as where its user did nothing."""
    known = {"user_key": user, "time": at, "variant": variant, "segments": json.dumps({"plan": plan})}
    return known | dict.fromkeys(KINDS) | said


def audience(users: int, paid_lift: float, seed: int = 0) -> list[dict[str, Any]]:
    """Users of two variants and plans; only who pays saves more under treatment."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(users):
        variant, plan = ("control", "treatment")[rng.integers(2)], ("free", "paid")[rng.integers(2)]
        rate = 0.2 + paid_lift * (variant == "treatment" and plan == "paid")
        rows.append(row(str(i), variant, at=float(i), plan=plan, save=float(rng.random() < rate)))
    return rows


def results(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Reading]:
    return {(r.metric, r.segment): r for r in read(experiment(), fold(experiment(), rows), SEGMENTS)}


def test_a_lift_in_one_segment_is_found_there_and_not_elsewhere() -> None:
    found = results(audience(2000, 0.6))
    paid, free = found["save", "plan=paid"].interval, found["save", "plan=free"].interval
    assert paid is not None and free is not None
    assert paid[0] > 0.3 and free[0] < 0 < free[1]
    assert found["save", EVERYONE].interval[0] > 0  # type: ignore[index]
    assert ("like", EVERYONE) not in found and ("like", "plan=paid") in found  # it decides, and stands elsewhere


def test_any_false_row_in_either_table_is_rare() -> None:
    wrong = 0
    for seed in range(40):
        intervals = [r.interval for r in results(audience(400, 0.0, seed)).values() if r.interval]
        wrong += any(low > 0 or high < 0 for low, high in intervals)
    assert wrong <= 4  # two tables at 5 %


def test_small_segments_and_one_user_are_not_compared() -> None:
    found = results([row("only", save=1.0)])
    assert all(reading.interval is None for reading in found.values())
    assert found["save", EVERYONE].users == (1, 0)
    assert results(audience(300, 0.0))["save", "plan=other"].interval is None


def test_a_user_s_outcome_is_the_mean_over_requests_and_silence_is_zero() -> None:
    (person,) = fold(experiment(), [row("u", like=1.0, dwell=60.0), row("u"), row("u", dwell=1e9)])
    assert person.requests == 3
    assert person.sums == {"like": 1.0, "click": 0.0, "save": 0.0, "regenerate": 0.0, "dwell": 1.5}


@pytest.mark.parametrize(("value", "share"), [(None, 0.0), (30.0, 0.25), (120.0, 1.0), (86_400.0, 1.0), (-5.0, 0.0)])
def test_dwell_is_capped(value: float | None, share: float) -> None:
    assert scaled("dwell", value, 120.0) == share


def test_who_saw_two_variants_and_variants_that_are_gone_are_left_out() -> None:
    rows = [row("both"), row("both", "treatment"), row("gone", "retired"), row("stays"), row("stays", "retired")]
    assert [person.requests for person in fold(experiment(), rows)] == [1]


def test_a_segment_is_that_of_the_first_request_in_whatever_order_they_come() -> None:
    rows = [row("u", at=5.0, plan="paid"), row("u", at=1.0, plan="free")]
    for order in (rows, rows[::-1]):
        (person,) = fold(experiment(), order)
        assert (person.first, json.loads(person.segments)) == (1.0, {"plan": "free"})
