"""Requests of an experiment's users become one row per user; what no analysis could use is refused. Pure.

Randomised by user, so analysed by user: of each measure (a kind of reaction, or a guardrail) a user's outcome is the
mean over their requests of a number in [0, 1]. Requests are folded as they come: what is held grows with users only.

An analysis that may be repeated needs outcomes that never change again: one that is the mean so far of users who
return, looked at each day, finds a false winner twice as often as it says. So a user counts once their attribution
window has closed (`by_closing`), by what the reader of events saw before that.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from components.errors import AtelierError

Sums = dict[str, tuple[float, int]]
Epoch = tuple[float, Mapping[str, float]]  # from when on (epoch s) which weights held


class ExperimentError(AtelierError):
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
class Seen:
    """What a user did under one variant: requests, and sum and number of values by measure."""

    requests: int = 0
    sums: Sums = field(default_factory=dict)


NOTHING = Seen()
SETTLE_S = 5.0  # after a window has closed, what gateways received before that is on disk


@dataclass(slots=True)
class User:
    """A user so far: first exposure (epoch s) with its variant, the weights then and segments; what they did inside, by
    variant, and before. `epochs`: (number, variant) of each in which they came.

    `crossed`: they saw several variants under the same weights, which no change of weights explains. `moved`: under
    different ones. `unexplained`: some request has a propensity that no weights had.
    """

    first: float = math.inf
    variant: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    segments: str = "{}"
    crossed: bool = False
    unexplained: bool = False
    epochs: tuple[tuple[int, str], ...] = ()
    inside: dict[str, Seen] = field(default_factory=dict)
    past: Sums = field(default_factory=dict)

    @property
    def moved(self) -> bool:
        return not self.crossed and len(self.inside) > 1

    @property
    def counted(self) -> Seen:
        """What counts: the variant of the first exposure."""
        return self.inside.get(self.variant, NOTHING)

    def outcome(self, measure: str) -> float:
        """Mean over the requests that count; NaN where the measure was not taken."""
        return _mean(self.counted.sums, measure)

    def before(self, measure: str) -> float:
        """Mean over the requests before; NaN without a past."""
        return _mean(self.past, measure)


@dataclass(frozen=True)
class Pair:
    """Users of control and one treatment in order of first exposure; `share` (n,): each one's probability of treatment,
    given that it was one of the two, by the weights at their first exposure."""

    users: tuple[User, ...]
    treated: NDArray[np.bool_]
    share: NDArray[np.float64]

    @property
    def times(self) -> NDArray[np.float64]:
        """Of first exposures (n,), epoch s, rising."""
        return np.array([user.first for user in self.users], dtype=np.float64)


def fold(rows: Iterable[Exposure], epochs: Sequence[Epoch]) -> list[User]:
    """Users in order of first exposure, from rows in any order; those of variants that are gone are skipped.

    Whom a change of weights moved counts for the variant they saw first, with what they did under it: to leave them out
    would take users who come back out of those variants only that lost weight. A clock that jumped only permutes users,
    which a sequence of equals allows. Raises `ExperimentError` for a value outside [0, 1], a time that is no number and
    a propensity outside (0, 1].
    """
    users: defaultdict[str, User] = defaultdict(User)
    held = _by_propensity(epochs)
    for row in rows:
        if not row.past and row.variant not in epochs[-1][1]:
            continue
        _check(row)
        user = users[row.user_key]
        if row.past:
            _add(user.past, row.values)
        else:
            _expose(user, row, _epoch(epochs, held, row), epochs)
    return sorted((user for user in users.values() if user.inside), key=lambda user: user.first)


def by_closing(users: Sequence[User], attribution_s: float, until: float) -> tuple[list[User], list[User]]:
    """(users whose attribution windows have closed by `until`, those whose are open), each in order of closing."""
    closed = [user for user in users if user.first + attribution_s + SETTLE_S <= until]
    return closed, [user for user in users if user.first + attribution_s + SETTLE_S > until]


def roles(weights: Mapping[str, float]) -> tuple[str, list[str]]:
    """(control, treatments): `control`, or the first by name, against every other that gets traffic."""
    names = sorted(name for name, weight in weights.items() if weight > 0)
    control = "control" if "control" in names else names[0]
    return control, [name for name in names if name != control]


def pair(users: Sequence[User], control: str, treatment: str) -> Pair:
    """The users of two variants, of those who could have got either."""
    mine = [user for user in users if user.variant in (control, treatment)]
    mine = [user for user in mine if user.weights.get(control, 0) > 0 and user.weights.get(treatment, 0) > 0]
    treated = np.array([user.variant == treatment for user in mine], dtype=np.bool_)
    share = [user.weights[treatment] / (user.weights[control] + user.weights[treatment]) for user in mine]
    return Pair(tuple(mine), treated, np.array(share, dtype=np.float64))


def _by_propensity(epochs: Sequence[Epoch]) -> dict[tuple[str, float], list[int]]:
    """The epochs in which a variant had a weight, oldest first."""
    epochs_of: dict[tuple[str, float], list[int]] = {}
    for i, (_, weights) in enumerate(epochs):
        for name, weight in weights.items():
            epochs_of.setdefault((name, round(weight, 9)), []).append(i)
    return epochs_of


def _epoch(epochs: Sequence[Epoch], held: Mapping[tuple[str, float], list[int]], row: Exposure) -> int | None:
    """The last epoch before the request in which its propensity was right; else the first of them, as a gateway's clock
    may be behind. None where there is none."""
    fitting = held.get((row.variant, round(row.propensity, 9)), [])
    if len(fitting) == 1:
        return fitting[0]
    before = bisect_right(fitting, row.time, key=lambda i: epochs[i][0])
    return fitting[max(before - 1, 0)] if fitting else None


def _check(row: Exposure) -> None:
    for measure, value in row.values.items():
        if not 0 <= value <= 1:
            raise ExperimentError(f"user {row.user_key}: {measure} is {value}, not a number from 0 to 1")
    if not math.isfinite(row.time):
        raise ExperimentError(f"user {row.user_key}: time is {row.time}, not epoch seconds")
    if not 0 < row.propensity <= 1:
        raise ExperimentError(f"user {row.user_key}: propensity is {row.propensity}, not in (0, 1]")


def _expose(user: User, row: Exposure, epoch: int | None, epochs: Sequence[Epoch]) -> None:
    at = len(epochs) - 1 if epoch is None else epoch
    user.unexplained |= epoch is None
    if (at, row.variant) not in user.epochs:
        user.crossed |= any(epoch_seen == at for epoch_seen, _ in user.epochs)
        user.epochs += ((at, row.variant),)
    if row.time < user.first:
        user.first, user.variant, user.weights, user.segments = row.time, row.variant, epochs[at][1], row.segments
    seen = user.inside.get(row.variant)
    if seen is None:
        seen = user.inside[row.variant] = Seen()
    seen.requests += 1
    _add(seen.sums, row.values)


def _add(sums: Sums, values: Mapping[str, float]) -> None:
    for measure, value in values.items():
        total, count = sums.get(measure, (0.0, 0))
        sums[measure] = total + value, count + 1


def _mean(sums: Sums, measure: str) -> float:
    total, count = sums.get(measure, (math.nan, 1))
    return total / count
