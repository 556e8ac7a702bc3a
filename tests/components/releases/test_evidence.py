"""What the events say of a candidate: users count once and for good, and what has not ended is not forgotten."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import Engine

from components.config import load
from components.events.schema import Event, Outcome
from components.events.store import commit
from components.experiments.exposures import by_closing, fold
from components.releases import evidence, store
from components.releases.decide import CANDIDATE, CHAMPION, Action, decide, settled
from components.releases.leases import held
from components.releases.machine import WAY, State
from components.releases.schema import Release
from tests.components.events.examples import accepted, finished, like
from tests.components.releases.examples import NOTE, release_directly
from tests.components.releases.examples import engine as engine

WINDOW = 120.0


@pytest.fixture
def candidate(engine: Engine) -> Release:
    """text-b, at half of the users; text-a is champion."""
    release_directly(engine, "text-a")
    with held(engine, "text", "ada", 30) as lease:
        release = store.register(engine, "text-b", NOTE, lease.token)
        for state in WAY[1 : WAY.index(State.AB) + 1]:
            release = store.move(engine, release.release, release.version, state, NOTE, lease.token)
    return release


def visits(since: float) -> list[Event]:
    """40 users within ten minutes, each at their own deployment; they come back every half a minute, and their likes
    arrive at once or minutes later, dated as if at once."""
    rng, events = np.random.default_rng(6), list[Event]()
    for user in range(40):
        deployment, first = ("text-a", "text-b")[user % 2], since + 600 * rng.random()
        for visit in range(8):
            name, at = f"r{user}-{visit}", first + 30 * visit
            asked = accepted(name, at=at, user=f"u{user}").model_copy(update={"deployment": deployment})
            late = float(rng.choice([1.0, 90.0, 400.0]))
            said = like(name, name, at=at + 1, user=f"u{user}", value=float(rng.integers(2)))
            events += [asked, said.model_copy(update={"received": at + late})]
    return events


def test_06_what_a_user_of_a_release_counted_for_once_never_changes(engine: Engine, candidate: Release) -> None:
    commit(engine, visits(candidate.since))
    before: list[tuple[str, float]] = []
    for seconds in range(0, 1500, 50):
        now = candidate.since + seconds
        seen = evidence.exposures(engine, candidate, "text-a", now, WINDOW)
        closed, still_open = by_closing(fold(seen, [(0.0, {CANDIDATE: 1.0, CHAMPION: 1.0})]), WINDOW, now)
        outcomes = [(user.variant, user.outcome("like")) for user in closed]
        assert outcomes[: len(before)] == before
        before = outcomes
    assert len(before) == 40 and not still_open
    assert {outcome for _, outcome in before} <= {0.0, 0.25, 0.5, 0.75, 1.0}  # four visits within two minutes


def test_06_users_whose_window_is_open_are_told_and_do_not_count(engine: Engine, candidate: Release) -> None:
    commit(engine, visits(candidate.since))
    found = evidence.gather(engine, candidate, None, load().release)
    assert (found.users, found.still_open, found.likes) == (0, 0, (-1.0, 1.0))  # these users are still to come


def called(
    name: str, at: float, seconds: float | None, outcome: Outcome = Outcome.OK, status: int = 200
) -> list[Event]:
    """A call to the candidate, of a user of its own; without `seconds` it never ends."""
    asked = accepted(name, at=at, user=name).model_copy(update={"deployment": "text-b"})
    if seconds is None:
        return [asked]
    return [
        asked,
        finished(name, at=at + seconds).model_copy(update={"latency_s": seconds, "outcome": outcome, "status": status}),
    ]


def test_09_a_call_that_hangs_is_slow_once_it_has_lasted_too_long_however_it_ends(
    engine: Engine, candidate: Release
) -> None:
    since = candidate.since
    events = [
        *called("good", since + 1, 0.5),
        *called("late", since + 2, 11.0),
        *called("left after long", since + 3, 30.0, Outcome.CANCELLED, 499),
        *called("left soon", since + 4, 3.0, Outcome.CANCELLED, 499),
        *called("never ended", since + 5, None),
        *called("failed", since + 6, 0.1, Outcome.ERROR, 500),
        *called("young", since + 55, None),
        *called("its gateway died", since + 56, 0.0, Outcome.LOST, 0),
    ]
    commit(engine, events)
    found = evidence.calls(engine, candidate, 10.0, now=since + 60)
    assert [(call.failed, call.slow) for call in found] == [
        (False, False),
        (False, True),
        (None, True),
        (None, None),
        (None, True),
        (True, False),
        (None, None),
        (None, None),
    ]


def test_09_what_becomes_known_later_changes_no_earlier_look(engine: Engine, candidate: Release) -> None:
    rng, events = np.random.default_rng(9), list[Event]()
    for number, (at, fails) in enumerate(zip(np.sort(rng.uniform(0, 200, 40)), rng.random(40) < 0.3, strict=True)):
        outcome = Outcome.ERROR if fails else Outcome.OK
        seconds = float(rng.choice([0.5, 8.0, 40.0, 100.0]))
        events += called(f"r{number}", candidate.since + float(at), seconds, outcome, 500 if fails else 200)
    before: tuple[list[bool], list[bool]] = [], []
    for now in range(0, 330, 30):
        commit(engine, [event for event in events if event.time <= candidate.since + now])  # each is stored once
        calls = evidence.calls(engine, candidate, 10.0, candidate.since + now)
        known = (
            settled((call.failed_at, call.failed) for call in calls),
            settled((call.slow_at, call.slow) for call in calls),
        )
        assert all(later[: len(earlier)] == earlier for earlier, later in zip(before, known, strict=True))
        before = known
    assert [len(each) for each in before] == [40, 40]


@pytest.mark.parametrize("patience", [30.0, 4.0, None])
def test_09_a_candidate_of_which_a_quarter_hangs_until_users_leave_does_not_go_on(
    engine: Engine, candidate: Release, patience: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they leave when it is late already, before, or their gateway was killed."""
    rules = load().release.model_copy(update={"min_seconds": 0})
    later = SimpleNamespace(time=lambda: candidate.since + 600)
    monkeypatch.setattr(evidence, "time", later)
    decisions = []
    for number in range(120):
        hangs = number % 4 == 3
        seconds, outcome, status = (patience, Outcome.CANCELLED, 499) if hangs else (0.5, Outcome.OK, 200)
        commit(engine, called(f"r{number}", candidate.since + number / 10, seconds, outcome, status))
        if number % 20 == 19:
            state = replace(candidate, state=State.CANARY_50)
            decisions.append(decide(evidence.gather(engine, state, None, rules), rules))
    assert Action.ADVANCE not in [decision.action for decision in decisions]
    if patience == 4.0:
        assert decisions[-1].why.startswith("0 of 120 calls were slow, and of 30 it is not known")
    else:
        assert decisions[-1].action is Action.ROLL_BACK and decisions[-1].why.startswith("slow in 30 of 120 calls")
