"""When a candidate is cut off, and what counts as slow."""

from __future__ import annotations

import pytest

from bentos.gateway.traffic import CONSECUTIVE, ENOUGH, IN_WINDOW, Breaker, far_above, p95, patience


def test_failures_in_a_row_open_it_once_and_nothing_closes_it() -> None:
    breaker = Breaker()
    assert [breaker.note("internal") for _ in range(CONSECUTIVE)] == [*[False] * (CONSECUTIVE - 1), True]
    assert not any(breaker.note(reason) for reason in ("", "", "timeout", "timeout", "timeout"))
    assert breaker.opened == "internal"


def test_failures_that_keep_coming_between_good_answers_open_it() -> None:
    breaker = Breaker()
    calls = [breaker.note(reason) for _ in range(IN_WINDOW) for reason in ("", "", "slow")]
    assert calls.index(True) == 3 * IN_WINDOW - 1


def test_a_failure_now_and_then_does_not() -> None:
    breaker = Breaker()
    assert not any(breaker.note("internal" if i % 10 == 0 else "") for i in range(1000))


def test_slow_is_measured_against_enough_of_the_champions_answers() -> None:
    assert p95([1.0] * (ENOUGH - 1)) is None
    assert p95([1.0] * 95 + [9.0] * 5) == 9.0
    assert not far_above(1e9, None)
    assert (far_above(2.9, 1.0), far_above(3.1, 1.0)) == (False, True)
    assert not far_above(0.2, 0.01)  # twenty times, and nobody notices


@pytest.mark.parametrize(("champion", "seconds"), [(None, 30), (0.01, 2), (1.0, 10), (20.0, 60)])
def test_patience_leaves_the_champion_time_to_answer(champion: float | None, seconds: float) -> None:
    assert patience(champion, 120) == seconds
