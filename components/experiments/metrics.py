"""What users did beside the metric that decides: every kind of reaction, over all users and by segment. Pure.

Of each kind a user's outcome is the mean over their requests, in [0, 1]: the share liked, clicked, saved, regenerated;
of dwell the mean time, each capped (winsorised from above) and in units of the cap, as one tab that was left open
overnight would outweigh a thousand readers, and an always-valid interval needs a bound. Silence counts as 0. A user's
segments are those of their first request inside: later ones may be the variant's doing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from components.config import Experiment
from components.events.schema import KINDS, Kind
from components.experiments.comparison import compare
from components.experiments.exposures import User, roles

EVERYONE = ""


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


def read(experiment: Experiment, everyone: Sequence[User], segments: Sequence[str]) -> list[Reading]:
    """The metrics that do not decide over all users, then every metric by segment ("plan=paid"), all always valid.

    Each of the two tables holds together at 1 - alpha, at every look, by the union bound (as `compare` does for several
    treatments): so which row one picks afterwards does not matter. `segments` are those that can occur, not those that
    did, as a family that grows with the data would break that.
    """
    users = [user for user in everyone if not user.crossed]
    others = [kind for kind in KINDS if kind != experiment.metric]
    readings = [r for kind in others for r in _readings(experiment, kind, EVERYONE, users, len(others))]
    family = len(KINDS) * len(segments)
    for segment in segments:
        key, _, value = segment.partition("=")
        mine = [user for user in users if json.loads(user.segments).get(key) == value]
        readings += [r for kind in KINDS for r in _readings(experiment, kind, segment, mine, family)]
    return readings


def _readings(experiment: Experiment, kind: Kind, segment: str, users: Sequence[User], family: int) -> list[Reading]:
    control, _ = roles(experiment.weights)
    of = {name: [user.outcome(kind) for user in users if user.variant == name] for name in experiment.weights}
    enough = {name for name, outcomes in of.items() if len(outcomes) >= experiment.min_users}
    return [
        Reading(
            metric=kind,
            segment=segment,
            treatment=c.treatment,
            users=(len(of[control]), len(of[c.treatment])),
            means=(_mean(of[control]), _mean(of[c.treatment])),
            difference=c.difference,
            interval=(min(c.interval), max(c.interval)) if {control, c.treatment} <= enough else None,
        )
        for c in compare(users, kind, experiment.weights, experiment.alpha / family, cuped=False)
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
