"""Metrics beside the one that decides."""

from __future__ import annotations

import json

import numpy as np

from components.events.schema import KINDS
from components.experiments.exposures import Exposure, fold
from components.experiments.metrics import EVERYONE, Reading, read
from tests.components.experiments.examples import experiment

SEGMENTS = ("plan=free", "plan=paid", "plan=other")


def row(user: str, variant: str = "control", *, at: float = 1.0, plan: str = "free", **said: float) -> Exposure:
    """One request; kinds that are not named are 0, as where its user did nothing."""
    return Exposure(user, at, variant, 0.5, dict.fromkeys(KINDS, 0.0) | said, json.dumps({"plan": plan}))


def audience(users: int, paid_lift: float, seed: int = 0) -> list[Exposure]:
    """Users of two variants and plans; only who pays saves more under treatment."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(users):
        variant, plan = ("control", "treatment")[rng.integers(2)], ("free", "paid")[rng.integers(2)]
        rate = 0.2 + paid_lift * (variant == "treatment" and plan == "paid")
        rows.append(row(str(i), variant, at=float(i), plan=plan, save=float(rng.random() < rate)))
    return rows


def results(rows: list[Exposure]) -> dict[tuple[str, str], Reading]:
    return {(r.metric, r.segment): r for r in read(experiment(), fold(rows, [(0.0, experiment().weights)]), SEGMENTS)}


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


def test_who_saw_two_variants_counts_nowhere() -> None:
    both = [row("both"), row("both", "treatment"), row("one")]
    assert {reading.users for reading in results(both).values()} == {(1, 0), (0, 0)}
