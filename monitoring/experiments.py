"""What each running experiment says: its users' outcomes by variant or, where weights follow likes, what they became.

Reads the events database; raises `DatabaseError` where that fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from components.config import Experiment
from components.events import window
from components.experiments import versions
from components.experiments.exposures import Epoch, ExperimentError, User, by_closing, fold
from components.experiments.metrics import Reading
from components.experiments.metrics import read as read_metrics
from components.experiments.replay import Value
from components.experiments.statistics import Analysis, analyse
from components.experiments.versions import State, Version
from monitoring.outcomes import exposures
from monitoring.policies import each_variant, ranked

SHOWN = 12  # of the newest changes


@dataclass(frozen=True)
class Change:
    """A version: from when on (epoch s) which weights and share held, who made it and why."""

    time: float
    share: float
    weights: dict[str, float]
    who: str
    why: str


@dataclass(frozen=True)
class Worth:
    """What one variant alone would have earned, by replay of all requests, or why that cannot be told."""

    variant: str
    value: Value | None
    refused: str


@dataclass(frozen=True)
class Late:
    """What users did after their attribution windows had closed, and so counts for nothing: requests, and reactions to
    those before."""

    requests: int
    reactions: int


@dataclass(frozen=True)
class ExperimentReport:
    """One experiment. `changes` come oldest first, the newest of them; `worth` is known where weights follow likes."""

    line: str
    policy: str
    dwell_cap_s: float
    attribution_s: float
    late: Late
    analysis: Analysis
    metrics: list[Reading]
    changes: list[Change]
    worth: list[Worth]


def in_force(url: str) -> list[list[Version]]:
    """The versions of each running experiment, oldest first; in the order in which the experiments began."""
    by_name: dict[str, list[Version]] = {}
    for version in versions.history(url):
        by_name.setdefault(version.name, []).append(version)
    return [history for history in by_name.values() if history[-1].state is State.RUNNING]


def report_on(
    url: str,
    history: Sequence[Version],
    until: float,
    segments: Sequence[str],
    left_out: AbstractSet[str] = frozenset(),
) -> ExperimentReport:
    """What the experiment of these versions said until then, without the requests `left_out`."""
    experiment = history[-1].experiment
    everyone = users_of(url, experiment, versions.epochs(history), until, left_out)
    users, still_open = by_closing(everyone, experiment.attribution_seconds, until)
    late = Late(*window.after_closing(url, experiment.name, until, experiment.attribution_seconds))
    fixed = experiment.policy == "fixed"
    changes = [Change(v.time, v.experiment.share, v.experiment.weights, v.who, v.why) for v in history[-SHOWN:]]
    return ExperimentReport(
        line=experiment.line,
        policy=experiment.policy,
        dwell_cap_s=experiment.dwell_cap_s,
        attribution_s=experiment.attribution_seconds,
        late=late,
        analysis=analyse(experiment, users, still_open),
        metrics=read_metrics(experiment, users, segments) if fixed else [],
        changes=changes,
        worth=[] if fixed else worth(url, experiment, until),
    )


def users_of(
    url: str,
    experiment: Experiment,
    epochs: Sequence[Epoch],
    until: float,
    left_out: AbstractSet[str] = frozenset(),
) -> list[User]:
    """Everyone in the experiment before `until`, with what they did inside it, within their windows, and before."""
    every = window.experiment_requests(url, experiment.name, experiment.line, until, experiment.attribution_seconds)
    requests = (row for row in every if row["request_id"] not in left_out)
    return fold(exposures(experiment, requests), epochs)


def worth(url: str, experiment: Experiment, until: float) -> list[Worth]:
    """Each variant alone, best first."""
    requests = window.experiment_requests(url, experiment.name, experiment.line, until)
    try:
        values, refused = ranked(experiment, requests, each_variant(experiment))
    except ExperimentError as error:  # before the first request
        values, refused = [], {name: str(error) for name in experiment.variants}
    known = [Worth(name, value, "") for name, value in values]
    return known + [Worth(name, None, reason) for name, reason in refused.items()]
