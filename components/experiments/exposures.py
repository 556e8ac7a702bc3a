"""Requests of an experiment's users become one row per user; what no analysis could use is refused. Pure.

Randomised by user, so analysed by user: of each measure (a kind of reaction, or a guardrail) a user's outcome is the
mean over their requests of a number in [0, 1]. Requests are folded as they come: what is held grows with users only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Sums = dict[str, tuple[float, int]]


class ExperimentError(ValueError):
    """A row cannot be analysed; the message names the user, the value and what was expected."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """One request: who, when (epoch s), which variant with which probability, and its values in [0, 1] by measure.

    Such as `like` 1 and `slow` 0; a measure left out was not taken. `segments`: its user's then, as a JSON object.
    `past`: it came before its user entered the experiment, and only its values count.
    """

    user_key: str
    time: float
    variant: str
    propensity: float
    values: Mapping[str, float]
    segments: str = "{}"
    past: bool = False


@dataclass(slots=True)
class User:
    """A user so far: first exposure (epoch s) with its variant and segments, and sum and number of values by measure.

    `crossed`: they saw several variants. `reweighted`: some request had another propensity than its variant's weight.
    """

    first: float = math.inf
    variant: str = ""
    segments: str = "{}"
    requests: int = 0
    crossed: bool = False
    reweighted: bool = False
    inside: Sums = field(default_factory=dict)
    past: Sums = field(default_factory=dict)

    def outcome(self, measure: str) -> float:
        """Mean over the requests inside; NaN where the measure was not taken."""
        return _mean(self.inside, measure)

    def before(self, measure: str) -> float:
        """Mean over the requests before; NaN without a past."""
        return _mean(self.past, measure)


@dataclass(frozen=True)
class Pair:
    """Users of control and one treatment in order of first exposure; `share` is the probability of treatment."""

    users: tuple[User, ...]
    treated: NDArray[np.bool_]
    share: float


def fold(rows: Iterable[Exposure], weights: Mapping[str, float]) -> list[User]:
    """Users in order of first exposure, from rows in any order; rows of variants that are not in `weights` are skipped.

    A clock that jumped only permutes users, which a sequence of equals allows. Raises `ExperimentError` for a value
    outside [0, 1], a time that is no number and a propensity outside (0, 1].
    """
    users: dict[str, User] = {}
    for row in rows:
        if not row.past and row.variant not in weights:
            continue
        _check(row)
        user = users.get(row.user_key)
        if user is None:
            user = users[row.user_key] = User()
        if row.past:
            _add(user.past, row.values)
        else:
            _expose(user, row, weights[row.variant])
    return sorted((user for user in users.values() if user.requests), key=lambda user: user.first)


def roles(weights: Mapping[str, float]) -> tuple[str, list[str]]:
    """(control, treatments): `control`, or the first by name, against every other that gets traffic."""
    names = sorted(name for name, weight in weights.items() if weight > 0)
    control = "control" if "control" in names else names[0]
    return control, [name for name in names if name != control]


def pair(users: Sequence[User], control: str, treatment: str, weights: Mapping[str, float]) -> Pair:
    """The users of two variants."""
    mine = tuple(user for user in users if user.variant in (control, treatment))
    treated = np.array([user.variant == treatment for user in mine], dtype=np.bool_)
    return Pair(mine, treated, weights[treatment] / (weights[control] + weights[treatment]))


def _check(row: Exposure) -> None:
    for measure, value in row.values.items():
        if not 0 <= value <= 1:
            raise ExperimentError(f"user {row.user_key}: {measure} is {value}, not a number from 0 to 1")
    if not math.isfinite(row.time):
        raise ExperimentError(f"user {row.user_key}: time is {row.time}, not epoch seconds")
    if not 0 < row.propensity <= 1:
        raise ExperimentError(f"user {row.user_key}: propensity is {row.propensity}, not in (0, 1]")


def _expose(user: User, row: Exposure, weight: float) -> None:
    user.crossed |= user.variant not in ("", row.variant)
    user.reweighted |= abs(row.propensity - weight) > 1e-9
    user.requests += 1
    if row.time < user.first:
        user.first, user.variant, user.segments = row.time, row.variant, row.segments
    _add(user.inside, row.values)


def _add(sums: Sums, values: Mapping[str, float]) -> None:
    for measure, value in values.items():
        total, count = sums.get(measure, (0.0, 0))
        sums[measure] = total + value, count + 1


def _mean(sums: Sums, measure: str) -> float:
    total, count = sums.get(measure, (math.nan, 1))
    return total / count
