"""Guardrails: what a treatment may not make worse, each with a sequential non-inferiority test of its own. Pure.

A guardrail is the share of a user's requests that broke it (slower than the service level, failed, refused), in [0, 1]:
a share is bounded where a mean latency is not, and says what a quantile says. Harm is declared as soon as the lower
confidence sequence of treatment minus control lies above the margin, or users of late say so by themselves (`shift`):
what was safe for long may become harmful. Safety is, as soon as the upper one lies below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from components.experiments.comparison import Shift, confidence_sequence, effects, exceeding, predictions
from components.experiments.exposures import User, pair, roles


class Status(StrEnum):
    HARM = "harm"
    SAFE = "safe"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Guard:
    """A guardrail of one treatment: rates, their difference, one-sided bounds of it (each at 1 - alpha) and margin.

    `shift`: since when users say by themselves that the margin is exceeded; false within a year with probability alpha
    at most.
    """

    guardrail: str
    treatment: str
    control_rate: float
    treatment_rate: float
    bounds: tuple[float, float]
    margin: float
    status: Status
    shift: Shift | None = None


def guard(
    users: Sequence[User], weights: Mapping[str, float], margins: Mapping[str, float], alpha: float
) -> tuple[Guard, ...]:
    """Every guardrail of every treatment; a margin is the difference of shares that is still accepted.

    Treatments share alpha, guardrails do not: each has its own, as a missed harm costs more than a false alarm, and an
    alarm where nothing got worse is rarer than alpha by the whole margin.
    """
    control, treatments = roles(weights)
    return tuple(
        _guard(users, control, treatment, name, margin, alpha / len(treatments))
        for treatment in treatments
        for name, margin in margins.items()
    )


def _guard(users: Sequence[User], control: str, treatment: str, name: str, margin: float, alpha: float) -> Guard:
    two = pair([user for user in users if name in user.counted.sums], control, treatment)
    shares = np.array([user.outcome(name) for user in two.users], dtype=np.float64)
    # Two one-sided bounds at alpha are a two-sided interval at 2 alpha.
    _, low, high = confidence_sequence(shares, two.treated, two.share, min(2 * alpha, 0.99))
    x = effects(shares, two.treated, two.share, predictions(shares))
    turned = exceeding(x, margin, 1 / np.minimum(two.share, 1 - two.share), two.times, alpha)
    status = Status.HARM if low > margin or turned else Status.SAFE if high < margin else Status.UNDECIDED
    of_control, of_treatment = (float(shares[m].mean()) if m.any() else 0.0 for m in (~two.treated, two.treated))
    return Guard(name, treatment, of_control, of_treatment, (low, high), margin, status, turned)
