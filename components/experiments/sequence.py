"""Confidence sequence for the mean of bounded numbers, by a mixture of constant bets. Pure; knows no variants.

Who bets a share b that numbers lie above m owns prod(1 + b (x - m)) times their stake: where the mean is at most m, a
nonnegative supermartingale, and so is the average over several b. By Ville's inequality it ever reaches 1/alpha with
probability alpha at most, so all m at which it did are excluded, at whatever time one looks and with no large sample.
Waudby-Smith and Ramdas (2024), mixtures by Robbins (1970). The package `ville` has one bet that shrinks with time: it
takes twice as many users to the same decision; and an asymptotic sequence: a tenth fewer, but only from a hundred users
on and with no guarantee that is exact (`python -m tests.bench.online` prints all three).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

BETS = 6  # each half the one before: the best bet for a difference grows with it, and nobody knows it beforehand
LARGEST = 0.9  # of the largest bet that leaves any money whatever comes
PRECISION = 1e-4

Floats = NDArray[np.float64]


def bets(bound: float | Floats, mean: float) -> Floats:
    """The bets (BETS,), or (BETS, n) for bounds (n,), that numbers in [-bound, bound] exceed `mean`, of which they fall
    bound + mean short at most: so one against a low mean may be larger, as in Waudby-Smith and Ramdas, and the first
    hundred users tell more by it.
    """
    return np.multiply.outer(0.5 ** np.arange(BETS), LARGEST / (bound + mean))


def log_wealth(x: Floats, mean: float, bound: float | Floats) -> Floats:
    """Log of the wealth after each of `x` (n,), all in [-bound, bound], of a bet that their mean exceeds `mean`.

    Bounds may differ (n,) where each was known before its number, as when weights change: so is then the bet.
    """
    each_KN = np.cumsum(np.log1p(bets(bound, mean).reshape(BETS, -1) * (x - mean)), axis=1)
    return np.asarray(np.logaddexp.reduce(each_KN, axis=0) - np.log(BETS))


def crossing(x: Floats, mean: float, bound: float, alpha: float) -> float:
    """How many of `x` it takes to say at level `alpha`, one-sided, that their mean exceeds `mean`; inf if never."""
    reached = np.flatnonzero(log_wealth(x, mean, bound) >= -np.log(alpha))
    return float(reached[0]) + 1 if reached.size else float("inf")


def interval(x: Floats, bound: float | Floats, alpha: float) -> tuple[float, float]:
    """(low, high) of a mean in [-1, 1]; they hold for all prefixes of `x` together with probability 1 - alpha.

    Low lies above high where the mean moved under way: no one mean explains all of `x`.
    """
    return _lower(x, bound, alpha / 2), -_lower(-x, bound, alpha / 2)


def _lower(x: Floats, bound: float | Floats, alpha: float) -> float:
    def excess(mean: float) -> float:  # falls with the mean, and so does its maximum over time
        return float(log_wealth(x, mean, bound).max() + np.log(alpha))

    if excess(-1.0) <= 0:
        return -1.0
    return float(brentq(excess, -1.0, 1.0, xtol=PRECISION)) - PRECISION if excess(1.0) < 0 else 1.0
