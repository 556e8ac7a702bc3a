"""Off-policy replay: what a policy that never ran would have earned, from what a logged one did. Pure.

Inverse propensity scores (Horvitz and Thompson 1952), self-normalised (Swaminathan and Joachims 2015), and doubly
robust ones (Dudik, Langford and Li 2011), with a ridge model of rewards fitted on other users than it is used for.
Users' requests hang together, so standard errors are over users. The intervals, at 95 %, are for one look at a finished
log.

No library: the one for this, obp, had its last release in April 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from components.experiments.exposures import ExperimentError

MIN_EFFECTIVE = 30.0  # below it the normal interval of a weighted mean is fiction
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class OverlapError(ExperimentError):
    """The log holds too little of what the policy would do; the message says of what."""


@dataclass(frozen=True)
class Log:
    """n logged decisions: context (n, d), action (n,) from 0 to K - 1, its propensity, its reward, and whose it was."""

    context: Floats
    action: Ints
    propensity: Floats
    reward: Floats
    user: Ints

    def __post_init__(self) -> None:
        lengths = {len(self.context), *map(len, (self.action, self.propensity, self.reward, self.user))}
        if len(lengths) != 1 or not len(self.action):
            raise ExperimentError(f"a log needs columns of one length of at least 1, not {sorted(lengths)}")
        if not (np.isfinite(self.context).all() and np.isfinite(self.reward).all()):
            raise ExperimentError("contexts and rewards must be numbers, not NaN")
        if not np.all((self.propensity > 0) & (self.propensity <= 1)):
            raise ExperimentError("propensities must lie in (0, 1]: what was never possible cannot have been logged")


@dataclass(frozen=True)
class Estimate:
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Value:
    """A policy's value by two estimators and the number of unweighted decisions that its log is worth."""

    snips: Estimate
    doubly_robust: Estimate
    effective: float


def evaluate(log: Log, policy_nK: Floats) -> Value:
    """Value of the policy that takes action k in logged context i with probability `policy_nK[i, k]`.

    Raises `ExperimentError` for a policy that is none and `OverlapError` where the log cannot tell.
    """
    rows = np.arange(len(log.action))
    if len(policy_nK) != len(rows) or (policy_nK < 0).any() or not np.allclose(policy_nK.sum(axis=1), 1):
        raise ExperimentError("a policy needs one row per decision, each of probabilities that sum to 1")
    w = policy_nK[rows, log.action] / log.propensity
    effective = _check_overlap(log, policy_nK, w)
    modelled = _rewards(log, policy_nK.shape[1])  # (n, K)
    correction = w * (log.reward - modelled[rows, log.action])
    snips = float(np.sum(w * log.reward) / w.sum())
    return Value(
        # Linearised: a ratio's error is that of its numerator less the ratio times that of its denominator.
        snips=_estimate(log, snips + w * (log.reward - snips) / w.mean()),
        doubly_robust=_estimate(log, (policy_nK * modelled).sum(axis=1) + correction),
        effective=effective,
    )


def rank(log: Log, policies: Mapping[str, Floats]) -> tuple[list[tuple[str, Value]], dict[str, str]]:
    """Policies by the lower end of their doubly robust interval, best first, and those refused with the reason.

    The lower end, as the best of many estimates is mostly the luckiest.
    """
    values: dict[str, Value] = {}
    refused: dict[str, str] = {}
    for name, policy in policies.items():
        try:
            values[name] = evaluate(log, policy)
        except OverlapError as error:
            refused[name] = str(error)
    return sorted(values.items(), key=lambda item: -item[1].doubly_robust.interval[0]), refused


def _check_overlap(log: Log, policy_nK: Floats, w: Floats) -> float:
    """The effective sample size (sum w)^2 / sum w^2 (Kish 1965), if the log can value the policy."""
    logged = np.bincount(log.action, minlength=policy_nK.shape[1])
    missing = [k for k in range(policy_nK.shape[1]) if policy_nK[:, k].any() and not logged[k]]
    if missing:
        raise OverlapError(f"the policy takes actions {missing}, which were never logged")
    effective = float(w.sum() ** 2 / np.sum(w * w)) if w.any() else 0.0
    if effective < MIN_EFFECTIVE:
        raise OverlapError(f"worth {effective:.1f} decisions that the policy would take; {MIN_EFFECTIVE:g} are needed")
    # Weights average 1 unless some contexts never saw what the policy does there, or propensities are wrong.
    low, high = _estimate(log, w, 1e-4).interval
    if not low <= 1 <= high:
        raise OverlapError(
            f"weights average {w.mean():.3f}, not 1: actions missing in some contexts, or propensities wrong"
        )
    return effective


def _rewards(log: Log, actions: int) -> Floats:
    """Expected reward (n, K) of every action by a ridge model of other users; the mean where they saw none of it."""
    modelled = np.full((len(log.action), actions), log.reward.mean())
    if len(np.unique(log.user)) < 2:
        return modelled
    for train, held in GroupKFold(2).split(log.context, groups=log.user):
        for k in range(actions):
            mine = train[log.action[train] == k]
            if mine.size:
                modelled[held, k] = Ridge().fit(log.context[mine], log.reward[mine]).predict(log.context[held])
    return modelled


def _estimate(log: Log, values: Floats, alpha: float = 0.05) -> Estimate:
    """Mean of `values` (n,) with a normal interval whose standard error sums each user's deviations first."""
    mean = float(values.mean())
    _, who = np.unique(log.user, return_inverse=True)
    error = float(np.sqrt(np.sum(np.bincount(who, values - mean) ** 2)) / len(values))
    reach = float(stats.norm.ppf(1 - alpha / 2)) * error
    return Estimate(mean, (mean - reach, mean + reach))
