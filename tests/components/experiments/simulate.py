"""Simulated experiments with a known truth: streams of users, and how many it takes until an analysis decides. Pure.

Every replay has its own seed, so that any one can be run again alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.power import TTestIndPower

from components.experiments.comparison import effects, log_wealth, predictions
from components.experiments.plan import BOUND

Floats = NDArray[np.float64]
TASTE = 2.0  # concentration of users' Beta-distributed rates; around 0.3 they spread by 0.26


@dataclass(frozen=True)
class Stream:
    """Users (n,) in order of first exposure: outcomes, the same before the experiment, and who is treated."""

    outcomes: Floats
    before: Floats
    treated: NDArray[np.bool_]

    def effects(self, cuped: bool) -> Floats:
        before = self.before if cuped else np.full_like(self.before, np.nan)
        return effects(self.outcomes, self.treated, 0.5, predictions(self.outcomes, before))


@dataclass(frozen=True)
class Returning:
    """Users (n,) in order of the day on which they join, half of them treated without an effect; (n, days) whether they
    like what they get on each day, and the day on which that is heard of."""

    joined: NDArray[np.int64]
    treated: NDArray[np.bool_]
    liked: NDArray[np.bool_]
    heard: Floats

    def effects(self, window: int) -> Floats:
        """By what each did, and was heard of, within `window` days of joining; of those who joined early enough."""
        joined = self.joined[self.joined + window <= self.liked.shape[1]]
        closes = joined[:, None] + window
        means = self._mean(joined, closes)
        return effects(means, self.treated[: joined.size], 0.5, predictions(means, np.full_like(means, np.nan)))

    def so_far(self, day: int) -> Floats:
        """By all that each of those who have joined before `day` has done until then: no outcome stays what it was."""
        joined = self.joined[self.joined < day]
        means = self._mean(joined, np.full((joined.size, 1), day))
        return effects(means, self.treated[: joined.size], 0.5, predictions(means, np.full_like(means, np.nan)))

    def _mean(self, joined: NDArray[np.int64], until: NDArray[np.int64]) -> Floats:
        days = np.arange(self.liked.shape[1])
        active = (days >= joined[:, None]) & (days < until)
        liked = active & self.liked[: joined.size] & (self.heard[: joined.size] < until)
        return np.asarray(liked.sum(axis=1) / active.sum(axis=1))


def returning(rate: float, users: int, days: int, joining: int, seed: tuple[int, int], late: float = 0.2) -> Returning:
    """Users who join within `joining` days and come back on every day; of a share `late` of likes one hears 1 to 3 days
    later."""
    rng = np.random.default_rng(seed)
    taste = rng.beta(rate * TASTE, (1 - rate) * TASTE, users)
    liked = rng.random((users, days)) < taste[:, None]
    delay = np.where(rng.random((users, days)) < late, rng.uniform(1, 3, (users, days)), 0.0)
    joined = np.sort(rng.integers(0, joining, users))
    return Returning(joined, rng.random(users) < 0.5, liked, delay + np.arange(days, dtype=np.float64))


def stream(rate: float, lift: float, users: int, seed: tuple[int, int], requests: int = 1, past: int = 5) -> Stream:
    """Half of the users treated, which raises the mean rate by the factor 1 + lift; `past` requests came before.

    With one request an outcome is yes or no: the largest variance that outcomes of this mean can have.
    """
    rng = np.random.default_rng(seed)
    taste = rng.beta(rate * TASTE, (1 - rate) * TASTE, users)
    treated = rng.random(users) < 0.5
    # A fixed share of misses becomes hits, or for a negative lift of hits misses, so that rates stay in [0, 1].
    moved = lift * rate / (1 - rate) * (1 - taste) if lift >= 0 else lift * taste
    chance = taste + treated * moved
    return Stream(rng.binomial(requests, chance) / requests, rng.binomial(past, taste) / past, treated)


def turning(phases: Sequence[tuple[int, float]], rate: float, share: float, seed: tuple[int, int]) -> Floats:
    """Effects of users who like `rate` under control, and in each phase of so many users so much more under treatment,
    which the `share` of them gets."""
    rng = np.random.default_rng(seed)
    lifts = np.concatenate([np.full(users, lift) for users, lift in phases])
    treated = rng.random(lifts.size) < share
    outcomes = (rng.random(lifts.size) < rate + lifts * treated).astype(np.float64)
    return effects(outcomes, treated, share, predictions(outcomes, np.full(lifts.size, np.nan)))


def crossing(x: Floats, mean: float, bound: float, alpha: float) -> float:
    """How many of `x` it takes to say at level `alpha`, one-sided, that their mean exceeds `mean`; inf if never."""
    reached = np.flatnonzero(log_wealth(x, mean, bound) >= -np.log(alpha))
    return float(reached[0]) + 1 if reached.size else float("inf")


def users_to_decision(x: Floats, alpha: float, every: int) -> float:
    """Users seen at the first look, one after `every` users, whose interval of effects `x` excludes 0; or inf."""
    first = min(crossing(x, 0.0, BOUND, alpha / 2), crossing(-x, 0.0, BOUND, alpha / 2))
    return every * math.ceil(first / every) if math.isfinite(first) else first


def fixed_horizon_mean(difference: float, deviation: float, power: float, alpha: float) -> int:
    """Users of both variants together for a t-test, looked at once, of means of outcomes of that deviation."""
    return 2 * math.ceil(TTestIndPower().solve_power(abs(difference) / deviation, alpha=alpha, power=power))
