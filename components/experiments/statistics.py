"""Statistics of a running experiment, valid however often they are looked at. Pure: rows in, numbers and words out.

Randomised by user, so analysed by user: a user's outcome is the share of their requests that they liked, in [0, 1], and
silence counts as no like. The difference between variants is an inverse-propensity-weighted mean over users in order of
first exposure; its interval is the betting confidence sequence of Waudby-Smith and Ramdas (2024) from the package
`ville`, which needs no large sample; this file's tests hold it to account by simulation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import ville
from numpy.typing import NDArray
from scipy import stats

from components.config import Experiment

GRID = 4000  # candidate differences between -2 and 2 that are tested: the interval is exact to 0.001


@dataclass(frozen=True)
class Exposure:
    """One request inside the experiment: who, when (epoch s), which variant with which probability, liked or not."""

    user_key: str
    time: float
    variant: str
    propensity: float
    liked: float


@dataclass(frozen=True)
class Arm:
    """One variant: users, requests, and the mean over users of their share of liked requests."""

    variant: str
    users: int
    requests: int
    like_rate: float


@dataclass(frozen=True)
class Analysis:
    """What the experiment says now; `interval` bounds treatment minus control at all looks together, at 1 - alpha."""

    experiment: str
    control: str
    treatment: str
    arms: tuple[Arm, ...]
    difference: float
    interval: tuple[float, float]
    alpha: float
    srm_p_value: float
    srm: bool
    crossed_over: int
    verdict: str
    reason: str


@dataclass(frozen=True)
class _User:
    first: float
    variant: str
    requests: int
    outcome: float


def sample_ratio(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """p-value of Pearson's chi-square test that users fell into variants by their weights; 1 before the first user."""
    total = sum(counts.values())
    names = [name for name, weight in weights.items() if weight > 0]
    if total == 0 or len(names) < 2:
        return 1.0
    observed = [counts.get(name, 0) for name in names]
    expected = [weights[name] for name in names]
    scaled = [sum(observed) * weight / sum(expected) for weight in expected]
    return float(stats.chisquare(observed, scaled).pvalue)


def confidence_sequence(
    outcomes: NDArray[np.float64], treated: NDArray[np.bool_], share: float, alpha: float
) -> tuple[float, float, float]:
    """(difference, low, high) of treatment minus control for outcomes in [0, 1] in order of first exposure.

    `share` is the probability of treatment. Low and high hold for all looks together with probability 1 - alpha.
    """
    if not outcomes.size:
        return 0.0, -1.0, 1.0
    test = ville.BettingABTest(bounds=(0.0, 1.0), alpha=alpha, propensity=share, grid=GRID)
    low, high = test.fit(outcomes, treated.astype(float)).interval()
    return float(test.estimate_[-1]), max(float(low), -1.0), min(float(high), 1.0)


def analyse(experiment: Experiment, exposures: Iterable[Exposure]) -> Analysis:
    """Analyse all exposures of an experiment so far: `control` (or the first variant) against the next one by name.

    A user seen in several variants is left out and counted, as nothing they did can be credited to one of them.
    """
    rows = [row for row in exposures if row.variant in experiment.variants]
    everyone = by_user(rows)
    users = sorted((user for user in everyone.values() if user is not None), key=lambda user: user.first)
    control, treatment = _pair(experiment)
    weights = {name: variant.weight for name, variant in experiment.variants.items()}
    arms = tuple(_arm(name, users) for name in sorted(weights))
    p_value = sample_ratio({arm.variant: arm.users for arm in arms}, weights)
    pair = [user for user in users if user.variant in (control, treatment)] if control != treatment else []
    difference, low, high = confidence_sequence(
        np.array([user.outcome for user in pair], dtype=np.float64),
        np.array([user.variant == treatment for user in pair], dtype=np.bool_),
        weights[treatment] / (weights[control] + weights[treatment]),
        experiment.alpha,
    )
    reweighted = any(abs(row.propensity - weights[row.variant]) > 1e-9 for row in rows)
    verdict, reason = decide(control, treatment, (low, high), p_value < experiment.srm_alpha, reweighted)
    return Analysis(
        experiment=experiment.name,
        control=control,
        treatment=treatment,
        arms=arms,
        difference=difference,
        interval=(low, high),
        alpha=experiment.alpha,
        srm_p_value=p_value,
        srm=p_value < experiment.srm_alpha,
        crossed_over=sum(user is None for user in everyone.values()),
        verdict=verdict,
        reason=reason,
    )


def by_user(rows: Iterable[Exposure]) -> dict[str, _User | None]:
    """Each user's first exposure, variant, requests and outcome; None for a user who was seen in several variants."""
    grouped: dict[str, list[Exposure]] = {}
    for row in rows:
        grouped.setdefault(row.user_key, []).append(row)
    return {key: _user(group) for key, group in grouped.items()}


def decide(control: str, treatment: str, interval: tuple[float, float], srm: bool, reweighted: bool) -> tuple[str, str]:
    """Verdict and its reason in words; a broken experiment is inconclusive whatever its interval says."""
    low, high = interval
    if reweighted:
        return (
            "inconclusive",
            "The variants' weights changed while it ran: give it a new name and salt and start again.",
        )
    if srm:
        return (
            "inconclusive",
            "Users did not fall into the variants by their weights (sample-ratio mismatch): find the bug.",
        )
    if low > 0:
        return f"{treatment} better", f"The whole interval lies above 0: {treatment} is liked more than {control}."
    if high < 0:
        return f"{control} better", f"The whole interval lies below 0: {control} is liked more than {treatment}."
    return "inconclusive", "The interval contains 0: the data so far agree with no difference. More users narrow it."


def _pair(experiment: Experiment) -> tuple[str, str]:
    names = sorted(name for name, variant in experiment.variants.items() if variant.weight > 0)
    control = "control" if "control" in names else names[0]
    return control, next((name for name in names if name != control), control)


def _user(rows: list[Exposure]) -> _User | None:
    if len({row.variant for row in rows}) > 1:
        return None
    liked = sum(row.liked for row in rows) / len(rows)
    return _User(min(row.time for row in rows), rows[0].variant, len(rows), min(max(liked, 0.0), 1.0))


def _arm(variant: str, users: list[_User]) -> Arm:
    mine = [user for user in users if user.variant == variant]
    rate = sum(user.outcome for user in mine) / len(mine) if mine else 0.0
    return Arm(variant, len(mine), sum(user.requests for user in mine), rate)
