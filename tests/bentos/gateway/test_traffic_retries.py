"""Retries are at most a tenth of the calls, and each line has its own."""

from __future__ import annotations

from bentos.gateway.traffic import MOST_RETRIES, RetryBudget


def test_where_every_call_fails_a_tenth_is_repeated() -> None:
    budget = RetryBudget()
    repeated = 0
    for _ in range(1000):
        budget.deposit("text")
        repeated += budget.withdraw("text")
    assert 99 <= repeated <= 101
    assert budget.withdraw("image")


def test_a_quiet_time_saves_up_no_storm() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.deposit("text")
    assert sum(budget.withdraw("text") for _ in range(100)) == MOST_RETRIES
