from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.releases.machine import SHARES, State
from components.releases.plan import TrafficPlan, chooses_candidate, traffic_plan
from components.releases.schema import Release

CHAMPION = Release("text-1.1", "text", "text-1", State.CHAMPION, 3, 1.0)
SALTS = st.text(min_size=1, max_size=20)


def plan_in(state: State, salt: str = "text-2.1") -> TrafficPlan:
    return traffic_plan("text", [CHAMPION, Release(salt, "text", "text-2", state, 4, 2.0)])


def test_a_plan_names_who_serves_and_grows_with_every_move() -> None:
    assert plan_in(State.CANARY_5) == TrafficPlan("text", 7, "text-1", "text-2", 0.05, False, "text-2.1")
    assert plan_in(State.SHADOW) == TrafficPlan("text", 7, "text-1", "text-2", 0.0, True, "text-2.1")
    assert traffic_plan("text", []) == TrafficPlan("text", 0, None, None, 0.0, False, "")


@pytest.mark.parametrize("state", [State.REGISTERED, State.VALIDATED, State.RETIRED, State.ROLLED_BACK])
def test_a_release_that_is_not_on_trial_gets_nobody(state: State) -> None:
    plan = plan_in(state)
    assert (plan.candidate, plan.share, plan.shadow) == (None, 0.0, False)
    assert not any(chooses_candidate(plan, f"user-{i}") for i in range(1000))


def test_of_several_undecided_releases_the_one_furthest_on_is_the_candidate() -> None:
    later = Release("text-3.1", "text", "text-3", State.REGISTERED, 1, 9.0)
    on_trial = Release("text-2.1", "text", "text-2", State.CANARY_1, 4, 2.0)
    assert traffic_plan("text", [CHAMPION, on_trial, later]).candidate == "text-2"


@settings(max_examples=40, deadline=None)
@given(salt=SALTS, users=st.sets(st.text(max_size=8), max_size=60))
def test_raising_the_share_takes_nobody_away_from_the_candidate(salt: str, users: set[str]) -> None:
    sets = [{user for user in users if chooses_candidate(plan_in(state, salt), user)} for state in SHARES]
    assert all(before <= after for before, after in pairwise(sets))


@pytest.mark.parametrize("state", list(SHARES))
def test_the_share_of_users_is_the_plans_within_chance(state: State) -> None:
    plan, count = plan_in(state), 20_000
    chosen = sum(chooses_candidate(plan, f"user-{i}") for i in range(count))
    deviation = math.sqrt(count * plan.share * (1 - plan.share))
    assert abs(chosen - count * plan.share) < 4 * deviation  # passed by chance alone in all but 1 of 16,000 salts
    other = replace(plan, salt="text-3.1")
    both = sum(chooses_candidate(plan, f"user-{i}") and chooses_candidate(other, f"user-{i}") for i in range(count))
    expected = count * plan.share**2
    assert abs(both - expected) < 4 * math.sqrt(expected) + 1  # the next release draws other users
