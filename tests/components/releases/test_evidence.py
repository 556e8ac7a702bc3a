"""What the events say of a candidate: users count once and for good, and what has not ended is not forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import Engine

from components.config import load
from components.events.schema import Event
from components.events.store import commit
from components.experiments.exposures import by_closing, fold
from components.releases import evidence, store
from components.releases.decide import CANDIDATE, CHAMPION
from components.releases.leases import held
from components.releases.machine import WAY, State
from components.releases.schema import Release
from tests.components.events.examples import accepted, like
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
