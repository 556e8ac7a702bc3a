"""What is assumed of this machine covers what was measured on it."""

from __future__ import annotations

from components.planner import machine
from tests.components.planner.test_memory import ROWS


def test_the_assumed_shares_hold_in_every_measured_run() -> None:
    least, most = machine.REACHED
    assert all(least <= row["reached"] <= most for row in ROWS)


def test_no_measured_process_had_more_than_is_assumed() -> None:
    assert max(row["resident_by_default"] / row["planned"] for row in ROWS) <= machine.KEPT
