"""Requests inside an experiment become one row per user; what no analysis could use is refused. Pure.

Randomised by user, so analysed by user: a user's outcome is the mean of their requests' values in [0, 1], such as the
share that they liked; silence counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


class ExperimentError(ValueError):
    """A row cannot be analysed; the message names the user, the value and what was expected."""


@dataclass(frozen=True)
class Exposure:
    """One request inside the experiment: who, when (epoch s), which variant with which probability, its value.

    `value`: what the experiment's metric makes of its user's reaction, in [0, 1], such as 1 for a like.

    `breaches`: by guardrail, whether this request broke it; a guardrail left out was not measured.
    """

    user_key: str
    time: float
    variant: str
    propensity: float
    value: float
    breaches: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class User:
    """A user of one variant: first exposure (epoch s), outcome, and shares of their requests that broke a guardrail.

    `before` is their outcome before the experiment, NaN where they have no past.
    """

    first: float
    variant: str
    requests: int
    outcome: float
    breaches: Mapping[str, float]
    before: float


@dataclass(frozen=True)
class Pair:
    """Users of control and one treatment in order of first exposure; `share` is the probability of treatment."""

    users: tuple[User, ...]
    treated: NDArray[np.bool_]
    share: float


def check(rows: Iterable[Exposure]) -> None:
    """Raises `ExperimentError` for a value that is not a number or a propensity outside (0, 1]."""
    for row in rows:
        if not math.isfinite(row.value):
            raise ExperimentError(f"user {row.user_key}: value is {row.value}, not a number from 0 to 1")
        if not math.isfinite(row.time):
            raise ExperimentError(f"user {row.user_key}: time is {row.time}, not epoch seconds")
        if not 0 < row.propensity <= 1:
            raise ExperimentError(f"user {row.user_key}: propensity is {row.propensity}, not in (0, 1]")


def by_user(rows: Iterable[Exposure], before: Mapping[str, float]) -> dict[str, User | None]:
    """Each user's row; None for a user who was seen in several variants."""
    grouped: dict[str, list[Exposure]] = {}
    for row in rows:
        grouped.setdefault(row.user_key, []).append(row)
    return {key: _user(group, before.get(key, math.nan)) for key, group in grouped.items()}


def pair(users: Iterable[User], control: str, treatment: str, weights: Mapping[str, float]) -> Pair:
    """The users of two variants. A clock that jumped only permutes them, which a sequence of equals allows."""
    mine = tuple(sorted((u for u in users if u.variant in (control, treatment)), key=lambda user: user.first))
    treated = np.array([user.variant == treatment for user in mine], dtype=np.bool_)
    return Pair(mine, treated, weights[treatment] / (weights[control] + weights[treatment]))


def _user(rows: list[Exposure], before: float) -> User | None:
    if len({row.variant for row in rows}) > 1:
        return None
    mean = sum(row.value for row in rows) / len(rows)
    broken: dict[str, list[bool]] = {}
    for row in rows:
        for name, breach in row.breaches.items():
            broken.setdefault(name, []).append(breach)
    return User(
        first=min(row.time for row in rows),
        variant=rows[0].variant,
        requests=len(rows),
        outcome=min(max(mean, 0.0), 1.0),
        breaches={name: sum(values) / len(values) for name, values in broken.items()},
        before=before,
    )
