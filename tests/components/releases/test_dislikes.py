"""A candidate that users dislike is cut off within a few of them, and one as good as the champion hardly ever."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import Engine

from components.events.store import commit
from components.releases import dislikes, store
from components.releases.leases import held
from components.releases.machine import SHARES, WAY, State
from components.releases.schema import Release
from tests.components.events.examples import accepted, like
from tests.components.releases.examples import NOTE, release_directly
from tests.components.releases.examples import engine as engine

ALPHA = 0.05


def dislikers(rng: np.random.Generator, portion: float, rates: tuple[float, float]) -> list[bool]:
    """Which of 200 simulated users' dislikes are of the candidate's, in their order; champion's rate first."""
    treated = rng.random(200) < portion
    found: list[bool] = treated[rng.random(200) < np.where(treated, rates[1], rates[0])].tolist()
    return found


@pytest.mark.parametrize("rates", [(0.2, 0.2), (0.2, 0.6)])
def test_the_last_look_at_a_window_finds_what_any_look_at_it_has_found(rates: tuple[float, float]) -> None:
    rng = np.random.default_rng(4)
    for _ in range(3):
        disliked = dislikers(rng, 0.5, rates)
        looks = [dislikes.worse(disliked[: n + 1], 0.5, 0, 0.5) for n in range(len(disliked))]
        assert looks == sorted(looks) and any(looks) == looks[-1]


@pytest.mark.parametrize("portion", [0.05, 0.5])
def test_of_200_candidates_as_good_as_the_champion_no_more_than_alpha_are_cut_off(portion: float) -> None:
    """Looked at whenever one more user dislikes, in two windows."""
    rng = np.random.default_rng(3)
    windows = ([dislikers(rng, portion, (0.2, 0.2)) for _ in range(2)] for _ in range(200))
    cut = sum(any(dislikes.worse(seen, portion, n, ALPHA) for n, seen in enumerate(two)) for two in windows)
    assert stats.binomtest(cut, 200, ALPHA, alternative="greater").pvalue > 0.01, cut


@pytest.mark.parametrize(("portion", "users"), [(0.01, 2), (0.05, 3), (0.25, 6), (0.5, 13)])
def test_a_handful_of_users_who_dislike_only_the_candidate_are_enough(portion: float, users: int) -> None:
    assert dislikes.worse([True] * users, portion, 0, ALPHA)
    assert not dislikes.worse([True], portion, 0, ALPHA)
    assert not dislikes.worse([False] * 1000, portion, 0, ALPHA)


def candidate(engine: Engine) -> Release:
    release_directly(engine, "text-a")
    with held(engine, "text", "ada", 30) as lease:
        release = store.register(engine, "text-b", NOTE, lease.token)
        for state in WAY[1 : WAY.index(State.CANARY_5) + 1]:
            release = store.move(engine, release.release, release.version, state, NOTE, lease.token)
    return release


def dislike(engine: Engine, deployment: str, user: str, *, by: str = "", value: float = 0.0) -> None:
    """A user's answer and the reaction to it, of themselves or of someone else."""
    now, name = time.time(), f"{deployment}-{user}-{time.monotonic_ns()}"
    asked = accepted(name, at=now, user=user).model_copy(update={"deployment": deployment})
    commit(engine, [asked, like(name, name, at=now, user=by or user, value=value)])


def test_the_row_names_the_release_for_every_gateway(engine: Engine) -> None:
    release = candidate(engine)
    assert SHARES[release.state] == 0.05
    for user in ("u1", "u2", "u3"):
        assert dislikes.verdict(engine, release, "text-a", ALPHA) is None
        dislike(engine, "text-b", user)
    row = dislikes.verdict(engine, release, "text-a", ALPHA)
    assert row is not None
    assert (row.request_id, row.kind, row.reason) == (release.release, "breaker", "disliked")


def test_a_user_counts_once_and_neither_likes_nor_reactions_to_others_answers_count(engine: Engine) -> None:
    release = candidate(engine)
    for number in range(20):
        dislike(engine, "text-b", "angry")
        dislike(engine, "text-b", f"happy-{number}", value=1.0)
        dislike(engine, "text-b", f"asker-{number}", by="angry")
    assert dislikes.verdict(engine, release, "text-a", ALPHA) is None
