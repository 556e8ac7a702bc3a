"""What sends a candidate back, what lets it go on, and how often a good one is wronged."""

from __future__ import annotations

import numpy as np
import pytest

from components.config import load
from components.experiments.exposures import Exposure, fold
from components.releases.decide import CANDIDATE, CHAMPION, Action, Call, Evidence, decide, weigh
from components.releases.machine import State

RULES = load().release.model_copy(
    update={"min_requests": 30, "min_seconds": 60, "max_failures": 0.02, "max_slow": 0.1, "alpha": 0.05}
)
GOOD, BAD, SLOW = Call(False, False), Call(True, False), Call(False, True)


def seen(
    calls: list[Call],
    *,
    seconds: float = 60,
    exposures: list[Exposure] | None = None,
    breaker: str = "",
    state: State = State.AB,
) -> Evidence:
    users = fold(exposures or [], [(0.0, {CANDIDATE: 1.0, CHAMPION: 1.0})])
    return weigh(state, seconds, calls, (users, []), breaker, RULES.alpha)


def liking(candidate: float, champion: float, users: int, seed: int = 1) -> list[Exposure]:
    """As many users of each, who like what they got with these probabilities."""
    rng = np.random.default_rng(seed)
    rates = {CANDIDATE: candidate, CHAMPION: champion}
    return [
        Exposure(f"{name}-{i}", i, name, 1.0, {"like": float(rng.random() < rate)})
        for i in range(users)
        for name, rate in rates.items()
    ]


@pytest.mark.parametrize(("calls", "seconds"), [(29, 1000.0), (1000, 59.0)])
def test_it_stays_until_it_has_had_calls_and_time_enough(calls: int, seconds: float) -> None:
    decision = decide(seen([GOOD] * calls, seconds=seconds), RULES)
    assert decision.action is Action.HOLD
    assert decision.why == f"ab has {calls} of 30 calls and {seconds:.0f} of 60 s"


def test_a_good_one_goes_on_once_that_is_shown() -> None:
    few = decide(seen([GOOD] * 30, exposures=liking(0.5, 0.5, 50)), RULES)
    assert few.action is Action.HOLD and few.why.startswith("100 users may like it less than the champion, by up to")
    decision = decide(seen([GOOD] * 30, exposures=liking(0.5, 0.5, 1000)), RULES)
    assert (decision.action, decision.why.split(":")[0]) == (Action.ADVANCE, "ab → champion")


@pytest.mark.parametrize("seed", range(10))
def test_one_that_users_like_less_never_becomes_champion(seed: int) -> None:
    """As harmful as a model without German is in the proof; looked at after every 30 users of each, until it ends."""
    exposures = liking(0.35, 0.6, 600, seed)
    looks = [decide(seen([GOOD] * 30, exposures=exposures[:n]), RULES).action for n in range(60, 1201, 60)]
    assert Action.ADVANCE not in looks and looks[-1] is Action.ROLL_BACK


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (seen([BAD, GOOD, BAD, BAD, BAD], seconds=1), "failed in 4 of 5 calls"),
        (seen([SLOW] * 10, seconds=1), "slow in 10 of 10 calls"),
        (seen([GOOD] * 30, exposures=liking(0.1, 0.6, 300)), "liked less than the champion, by"),
        (seen([GOOD], breaker="timeout"), "a gateway's breaker opened in ab: timeout"),
    ],
    ids=["fails", "slow", "not liked", "cut off"],
)
def test_a_bad_one_goes_back_whether_or_not_it_has_had_its_time(evidence: Evidence, reason: str) -> None:
    decision = decide(evidence, RULES)
    assert decision.action is Action.ROLL_BACK
    assert decision.why.startswith(reason)


def test_one_failure_or_a_few_slow_answers_prove_nothing() -> None:
    assert decide(seen([BAD, *[GOOD] * 40], state=State.CANARY_50), RULES).action is Action.ADVANCE
    assert decide(seen([SLOW, SLOW, *[GOOD] * 28], state=State.CANARY_50), RULES).action is Action.ADVANCE


def test_users_seen_with_both_count_for_neither() -> None:
    both = [Exposure("u", 1.0, name, 1.0, {"like": 1.0}) for name in (CANDIDATE, CHAMPION)]
    assert seen([], exposures=both).users == 0


def test_looked_at_after_every_call_a_candidate_at_the_limit_is_seldom_wronged() -> None:
    """The bound of its share holds at all looks together: alpha / 3 of trials at most; here 100 of 300 looks."""
    wronged = 0
    for seed in range(100):
        failed = np.random.default_rng(seed).random(300) < RULES.max_failures
        calls = [BAD if call else GOOD for call in failed]
        looks = [i + 1 for i, call in enumerate(failed) if call]  # only a failure raises the bound
        wronged += any(decide(seen(calls[:n], seconds=1), RULES).action is Action.ROLL_BACK for n in looks)
    assert wronged <= 5
