"""One treatment against control: difference and its confidence sequence, valid however often it is looked at. Pure.

The difference is an inverse-propensity-weighted mean over users in order of first exposure, each less what was to be
expected of them (`predictions`, CUPED), so that its interval follows the variance that is left. The interval is of one
difference that holds for all users; whether that has changed under way is asked beside it (`shift`).

The interval (`interval`) is a confidence sequence for the mean of bounded numbers, by a mixture of constant bets. Who
bets a share b that numbers lie above m owns prod(1 + b (x - m)) times their stake: where the mean is at most m, a
nonnegative supermartingale, and so is the average over several b. By Ville's inequality it ever reaches 1/alpha with
probability alpha at most, so all m at which it did are excluded, at whatever time one looks and with no large sample.
Waudby-Smith and Ramdas (2024), mixtures by Robbins (1970). The package `ville` has one bet that shrinks with time: it
takes twice as many users to the same decision; and an asymptotic sequence: a tenth fewer, but only from a hundred users
on and with no guarantee that is exact (`python -m tests.bench.online` prints all three).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from components.experiments.exposures import User, pair, roles

RIDGE = 1.0  # pseudo-users' worth of "before says nothing", so that the first few users make no wild theta
BETS = 6  # each half the one before: the best bet for a difference grows with it, and nobody knows it beforehand
LARGEST = 0.9  # of the largest bet that leaves any money whatever comes
PRECISION = 1e-4
DAYS = 365
DAY_S = 86_400.0

Floats = NDArray[np.float64]


class Verdict(StrEnum):
    """What an experiment says of its treatments; `HARMFUL`: one breaks a guardrail."""

    INCONCLUSIVE = "inconclusive"
    BETTER = "better"
    WORSE = "worse"
    HARMFUL = "harmful"
    CHANGED = "the effect changed"


@dataclass(frozen=True)
class Shift:
    """Since when (epoch s) a mean lies beyond a limit, most likely, by how many users, and that mean."""

    since: float
    users: int
    mean: float


@dataclass(frozen=True)
class Comparison:
    """A treatment minus control; `interval` bounds it at all looks and for all treatments together, at 1 - alpha.

    Its low lies above its high where no one difference explains all users. `explained` is the share of the outcomes'
    variance that users' past took away; 0 where no past is known. `shift`: users of late say by themselves that there
    is a difference; within a year without any, one of all treatments does with probability alpha at most.
    """

    treatment: str
    difference: float
    interval: tuple[float, float]
    explained: float
    shift: Shift | None = None

    @property
    def verdict(self) -> Verdict:
        low, high = self.interval
        mean = self.shift.mean if self.shift else 0.0
        all_users = 1 if low > 0 else -1 if high < 0 else 0
        if low > high or (mean and np.sign(mean) != all_users):
            return Verdict.CHANGED
        return {1: Verdict.BETTER, 0: Verdict.INCONCLUSIVE, -1: Verdict.WORSE}[all_users]


def compare(
    users: Sequence[User], measure: str, weights: Mapping[str, float], alpha: float, *, cuped: bool
) -> tuple[Comparison, ...]:
    """Every treatment against control in a measure, each at alpha / treatments (Bonferroni); `cuped` by users' pasts.

    Each interval holds for all looks, so by the union bound all hold for all looks together. e-BH on e-values is more
    powerful with dozens of variants, but bounds the share of wrong winners, gives no interval, and can take back a
    winner when another treatment's evidence falls; with a few treatments, one of which is shipped, the error that
    costs is any wrong winner.
    """
    control, treatments = roles(weights)
    comparisons = []
    for treatment in treatments:
        two = pair(users, control, treatment)
        outcomes = np.array([user.outcome(measure) for user in two.users], dtype=np.float64)
        before = np.array([user.before(measure) for user in two.users], dtype=np.float64) if cuped else None
        each = alpha / len(treatments)
        difference, low, high = confidence_sequence(outcomes, two.treated, two.share, each, before)
        expected = predictions(outcomes, before)
        x = effects(outcomes, two.treated, two.share, expected)
        turned = shift(x, 1 / np.minimum(two.share, 1 - two.share), two.times, each)
        without, left = (np.sum((outcomes - guess) ** 2) for guess in (predictions(outcomes), expected))
        explained = float(1 - left / without) if without else 0.0
        comparisons.append(Comparison(treatment, difference, (low, high), explained, turned))
    return tuple(comparisons)


def effects(outcomes: Floats, treated: NDArray[np.bool_], share: float | Floats, expected: Floats) -> Floats:
    """Numbers (n,) whose mean is the difference, within 1 / min(share, 1 - share) of 0, from outcomes in [0, 1]."""
    return (outcomes - expected) * np.where(treated, 1 / share, -1 / (1 - share))


def confidence_sequence(
    outcomes: Floats, treated: NDArray[np.bool_], share: float | Floats, alpha: float, before: Floats | None = None
) -> tuple[float, float, float]:
    """(difference, low, high) of treatment minus control for outcomes in [0, 1] in order of first exposure.

    `share` is the probability of treatment, one for all or (n,) as it was before each was assigned, `before` each
    user's outcome before the experiment (NaN: none). Low and high hold for all looks together with probability
    1 - alpha; low lies above high where the difference changed under way.
    """
    if not outcomes.size:
        return 0.0, -1.0, 1.0
    x = effects(outcomes, treated, share, predictions(outcomes, before))
    low, high = interval(x, 1 / np.minimum(share, 1 - share), alpha)
    return float(x.mean()), low, high


def predictions(outcomes: Floats, before: Floats | None = None) -> Floats:
    """Each user's predicted outcome (n,) in [0, 1], from `before` (n,; NaN without a past) and earlier users only.

    Without a past, or where `before` never varies, it is the mean outcome so far; 0.5 for the first user.

    CUPED, by which Deng, Xu, Kohavi and Walker (2013) subtract theta (before - its mean), with theta by regression over
    all users. Here theta and both means come from earlier users, as in Waudby-Smith et al. (2024): a prediction that
    knows neither a user's own outcome nor their variant leaves the difference unbiased at every look. It is clipped to
    [0, 1] as outcomes are, so what remains is bounded as without it, and the exact sequence for bounded numbers stays
    valid: no asymptotic one is needed.
    """
    past = np.full_like(outcomes, np.nan) if before is None else before
    has_past = np.isfinite(past)
    x = np.where(has_past, past, 0.0)
    n, all_n = _earlier(has_past.astype(float)), np.arange(outcomes.size)
    mean_x, mean_y = (_earlier(v) / np.maximum(n, 1) for v in (x, np.where(has_past, outcomes, 0.0)))
    sxx = _earlier(x * x) - n * mean_x**2
    sxy = _earlier(np.where(has_past, x * outcomes, 0.0)) - n * mean_x * mean_y
    theta = sxy / (np.maximum(sxx, 0.0) + RIDGE)
    mean = np.where(all_n > 0, _earlier(outcomes) / np.maximum(all_n, 1), 0.5)
    return np.clip(mean + np.where(has_past & (n > 0), theta * (x - mean_x), 0.0), 0.0, 1.0)


def _earlier(values: Floats) -> Floats:
    """Sum of the values before each one."""
    return np.concatenate(([0.0], np.cumsum(values)[:-1]))


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


def log_wealth(x: Floats, mean: float, bound: float | Floats) -> Floats:
    """Log of the wealth after each of `x` (n,), all in [-bound, bound], of a bet that their mean exceeds `mean`.

    Bounds may differ (n,) where each was known before its number, as when weights change: so is then the bet.
    """
    each_KN = np.cumsum(np.log1p(bets(bound, mean).reshape(BETS, -1) * (x - mean)), axis=1)
    return np.asarray(np.logaddexp.reduce(each_KN, axis=0) - np.log(BETS))


def bets(bound: float | Floats, mean: float) -> Floats:
    """The bets (BETS,), or (BETS, n) for bounds (n,), that numbers in [-bound, bound] exceed `mean`, of which they fall
    bound + mean short at most: so one against a low mean may be larger, as in Waudby-Smith and Ramdas, and the first
    hundred users tell more by it.
    """
    return np.multiply.outer(0.5 ** np.arange(BETS), LARGEST / (bound + mean))


def shift(x: Floats, bound: float | Floats, times: Floats, alpha: float) -> Shift | None:
    """Since when the mean of `x` lies above or below 0; where it is 0, looks within a year say so with probability
    `alpha` at most."""
    above, below = (exceeding(side, 0.0, bound, times, alpha / 2) for side in (x, -x))
    shifts = [above] if above else []
    shifts += [Shift(below.since, below.users, -below.mean)] if below else []
    return max(shifts, key=lambda found: found.since, default=None)


def exceeding(x: Floats, limit: float, bound: float | Floats, times: Floats, alpha: float) -> Shift | None:
    """Since when the mean of `x` (n,), of users who came at `times` (n,; epoch s, rising), exceeds `limit`; None where
    it does not. While it never does, looks within a year say so with probability `alpha` at most.

    A confidence sequence asks of all numbers together, so that what was better for long is not found worse for as long
    again. Here a bet that the mean exceeds the limit begins anew with each day, and what all of them own together is an
    e-detector (Shin, Ramdas and Rinaldo 2023; Shiryaev-Roberts over days). While no number's mean exceeds the limit,
    that is at most the number of days in expectation, whenever one looks. So it reaches DAYS / alpha within DAYS days,
    a year, with probability alpha at most, and takes DAYS / alpha days to do so on average. A change is found about as
    soon as by a bet that began on the day of it.
    """
    begins = np.diff(np.floor(times / DAY_S), prepend=-np.inf) > 0
    if not x.size or log_detector(x, limit, bound, begins)[-1] < np.log(DAYS / alpha):
        return None
    owned_KN, before_KN = _owned(x, limit, bound)
    since = np.logaddexp.reduce(owned_KN[:, -1:] - before_KN, axis=0)
    first = int(np.argmax(np.where(begins, since, -np.inf)))
    return Shift(float(times[first]), x.size - first, float(x[first:].mean()))


def log_detector(x: Floats, limit: float, bound: float | Floats, begins: NDArray[np.bool_]) -> Floats:
    """Log of the detector (n,) after each of `x` (n,), all in [-bound, bound]; a day `begins` with some of them."""
    owned_KN, before_KN = _owned(x, limit, bound)
    staked_KN = np.where(begins, -before_KN, -np.inf)
    each_KN = owned_KN + np.logaddexp.accumulate(staked_KN, axis=1)
    return np.asarray(np.logaddexp.reduce(each_KN, axis=0) - np.log(BETS))


def _owned(x: Floats, limit: float, bound: float | Floats) -> tuple[Floats, Floats]:
    """Log of what each bet (BETS, n) that began with the first number owns after, and before, each of them."""
    grown_KN = np.log1p(bets(bound, limit).reshape(BETS, -1) * (x - limit))
    owned_KN = np.cumsum(grown_KN, axis=1)
    return owned_KN, owned_KN - grown_KN
