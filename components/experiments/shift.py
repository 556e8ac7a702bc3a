"""Detector of change: whether numbers that had a good mean have a bad one by now, whenever that began. Pure.

A confidence sequence asks of all numbers together, so that what was better for long is not found worse for as long
again. Here a bet (`sequence`) that the mean exceeds a limit begins anew with each day, and what all of them own
together is an e-detector (Shin, Ramdas and Rinaldo 2023; Shiryaev-Roberts over days). While no number's mean exceeds
the limit, that is at most the number of days in expectation, whenever one looks. So it reaches DAYS / alpha within DAYS
days, a year, with probability alpha at most, and takes DAYS / alpha days to do so on average. A change is found about
as soon as by a bet that began on the day of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.experiments.sequence import BETS, Floats, bets

DAYS = 365
DAY_S = 86_400.0


@dataclass(frozen=True)
class Shift:
    """Since when (epoch s) a mean lies beyond a limit, most likely, by how many users, and that mean."""

    since: float
    users: int
    mean: float


def log_detector(x: Floats, limit: float, bound: float | Floats, begins: NDArray[np.bool_]) -> Floats:
    """Log of the detector (n,) after each of `x` (n,), all in [-bound, bound]; a day `begins` with some of them."""
    owned_KN, before_KN = _owned(x, limit, bound)
    staked_KN = np.where(begins, -before_KN, -np.inf)
    each_KN = owned_KN + np.logaddexp.accumulate(staked_KN, axis=1)
    return np.asarray(np.logaddexp.reduce(each_KN, axis=0) - np.log(BETS))


def exceeding(x: Floats, limit: float, bound: float | Floats, times: Floats, alpha: float) -> Shift | None:
    """Since when the mean of `x` (n,), of users who came at `times` (n,; epoch s, rising), exceeds `limit`; None where
    it does not. While it never does, looks within a year say so with probability `alpha` at most."""
    begins = np.diff(np.floor(times / DAY_S), prepend=-np.inf) > 0
    if not x.size or log_detector(x, limit, bound, begins)[-1] < np.log(DAYS / alpha):
        return None
    owned_KN, before_KN = _owned(x, limit, bound)
    since = np.logaddexp.reduce(owned_KN[:, -1:] - before_KN, axis=0)
    first = int(np.argmax(np.where(begins, since, -np.inf)))
    return Shift(float(times[first]), x.size - first, float(x[first:].mean()))


def shift(x: Floats, bound: float | Floats, times: Floats, alpha: float) -> Shift | None:
    """Since when the mean of `x` lies above or below 0; where it is 0, looks within a year say so with probability
    `alpha` at most."""
    above, below = (exceeding(side, 0.0, bound, times, alpha / 2) for side in (x, -x))
    found = [above] if above else []
    found += [Shift(below.since, below.users, -below.mean)] if below else []
    return max(found, key=lambda one: one.since, default=None)


def _owned(x: Floats, limit: float, bound: float | Floats) -> tuple[Floats, Floats]:
    """Log of what each bet (BETS, n) that began with the first number owns after, and before, each of them."""
    grown_KN = np.log1p(bets(bound, limit).reshape(BETS, -1) * (x - limit))
    owned_KN = np.cumsum(grown_KN, axis=1)
    return owned_KN, owned_KN - grown_KN
