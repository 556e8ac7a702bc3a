"""What users did beside the metric that decides: every kind of reaction, over all users and by segment. Pure.

Of each kind a user's outcome is the mean over their requests, in [0, 1]: the share liked, clicked, saved, regenerated;
of dwell the mean time, each capped (winsorised from above) and in units of the cap, as one tab that was left open
overnight would outweigh a thousand readers, and an always-valid interval needs a bound. Silence counts as 0. A user's
segments are those of their first request inside: later ones may be the variant's doing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.config import Experiment
from components.events.schema import KINDS, Kind
from components.experiments.comparison import compare
from components.experiments.exposures import User
from components.experiments.statistics import roles

EVERYONE = ""
Row = Mapping[str, Any]


@dataclass
class Person:
    """One user's requests so far: when the first came (epoch s), with which variant and segments, and sums by kind."""

    first: float
    variant: str
    segments: str
    requests: int = 0
    sums: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    crossed: bool = False


@dataclass(frozen=True)
class Reading:
    """A treatment against control in one metric and segment (`EVERYONE`: all): users and means of control, treatment.

    `interval` is None where a variant has fewer users than `min_users`.
    """

    metric: Kind
    segment: str
    treatment: str
    users: tuple[int, int]
    means: tuple[float, float]
    difference: float
    interval: tuple[float, float] | None


def fold(experiment: Experiment, rows: Iterable[Row]) -> list[Person]:
    """Users from the requests inside, read one at a time in any order; who saw several variants is left out."""
    found: dict[str, Person] = {}
    for row in rows:
        if row["variant"] not in experiment.variants:
            continue
        person = found.setdefault(row["user_key"], Person(row["time"], row["variant"], row["segments"]))
        if row["time"] < person.first:
            person.first, person.segments = row["time"], row["segments"]
        person.crossed |= row["variant"] != person.variant
        person.requests += 1
        for kind in KINDS:
            person.sums[kind] += scaled(kind, row[kind], experiment.dwell_cap_s)
    return [person for person in found.values() if not person.crossed]


def scaled(kind: Kind, value: float | None, cap: float) -> float:
    """A reaction's value in [0, 1]; `cap` is the seconds of dwell that count as 1. No reaction is 0."""
    return min(max((value or 0.0) / (cap if kind == "dwell" else 1.0), 0.0), 1.0)


def read(experiment: Experiment, people: Sequence[Person], segments: Sequence[str]) -> list[Reading]:
    """The metrics that do not decide over all users, then every metric by segment ("plan=paid"), all always valid.

    Each of the two tables holds together at 1 - alpha, at every look, by the union bound (as `compare` does for several
    treatments): so which row one picks afterwards does not matter. `segments` are those that can occur, not those that
    did, as a family that grows with the data would break that.
    """
    others = [kind for kind in KINDS if kind != experiment.metric]
    found = [r for kind in others for r in _readings(experiment, kind, EVERYONE, people, len(others))]
    family = len(KINDS) * len(segments)
    for segment in segments:
        key, _, value = segment.partition("=")
        mine = [person for person in people if json.loads(person.segments).get(key) == value]
        found += [r for kind in KINDS for r in _readings(experiment, kind, segment, mine, family)]
    return found


def _readings(experiment: Experiment, kind: Kind, segment: str, people: Sequence[Person], family: int) -> list[Reading]:
    weights = {name: variant.weight for name, variant in experiment.variants.items()}
    control, treatments = roles(weights)
    users = [User(p.first, p.variant, p.requests, p.sums[kind] / p.requests, {}, math.nan) for p in people]
    of = {name: [user.outcome for user in users if user.variant == name] for name in weights}
    enough = {name for name, outcomes in of.items() if len(outcomes) >= experiment.min_users}
    return [
        Reading(
            metric=kind,
            segment=segment,
            treatment=c.treatment,
            users=(len(of[control]), len(of[c.treatment])),
            means=(_mean(of[control]), _mean(of[c.treatment])),
            difference=c.difference,
            interval=c.interval if {control, c.treatment} <= enough else None,
        )
        for c in compare(users, control, treatments, weights, experiment.alpha / family)
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
