"""One treatment against control: difference and its confidence sequence, valid however often it is looked at. Pure.

The difference is an inverse-propensity-weighted mean over users in order of first exposure, each less what was to be
expected of them (`cuped`), so that its interval follows the variance that is left. The interval is of one difference
that holds for all users; whether that has changed under way is asked beside it (`shift`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from components.experiments.cuped import predictions
from components.experiments.exposures import User, pair, roles
from components.experiments.sequence import interval
from components.experiments.shift import Shift, shift

Floats = NDArray[np.float64]


class Verdict(StrEnum):
    """What an experiment says of its treatments; `HARMFUL`: one breaks a guardrail."""

    INCONCLUSIVE = "inconclusive"
    BETTER = "better"
    WORSE = "worse"
    HARMFUL = "harmful"
    CHANGED = "the effect changed"


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
    past = np.full(outcomes.size, np.nan) if before is None else before
    x = effects(outcomes, treated, share, predictions(outcomes, past))
    low, high = interval(x, 1 / np.minimum(share, 1 - share), alpha)
    return float(x.mean()), low, high


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
    found = []
    for treatment in treatments:
        two = pair(users, control, treatment)
        outcomes = np.array([user.outcome(measure) for user in two.users], dtype=np.float64)
        unknown = np.full_like(outcomes, np.nan)
        before = np.array([user.before(measure) for user in two.users], dtype=np.float64) if cuped else unknown
        each = alpha / len(treatments)
        difference, low, high = confidence_sequence(outcomes, two.treated, two.share, each, before)
        x = effects(outcomes, two.treated, two.share, predictions(outcomes, before))
        turned = shift(x, 1 / np.minimum(two.share, 1 - two.share), two.times, each)
        without, left = (np.sum((outcomes - predictions(outcomes, past)) ** 2) for past in (unknown, before))
        explained = float(1 - left / without) if without else 0.0
        found.append(Comparison(treatment, difference, (low, high), explained, turned))
    return tuple(found)
