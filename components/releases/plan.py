"""From a line's releases to who is served by which: a frozen plan, and each user's side of it.

Pure, and the same in every process: a user's place on [0, 1) depends on their key and the release alone, so raising the
share only moves users from the champion to the candidate, and the next release draws other users first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.experiments.assignment import uniform
from components.releases.machine import OPEN, SHARES, TRIAL, WAY, State
from components.releases.schema import Release


@dataclass(frozen=True)
class TrafficPlan:
    """Deployments by role (None where the line has none), and the candidate's share of users.

    `version` grows with every move on the line, so that of two plans the newer is known. With `shadow` the candidate is
    sent copies of requests and its answers reach nobody.
    """

    line: str
    version: int
    champion: str | None
    candidate: str | None
    share: float
    shadow: bool
    salt: str


def champion_of(releases: Sequence[Release]) -> Release | None:
    return next((release for release in releases if release.state is State.CHAMPION), None)


def candidate_of(releases: Sequence[Release]) -> Release | None:
    """The undecided release that has come furthest; of equals, the one that moved last."""
    undecided = (release for release in reversed(releases) if release.state in OPEN)
    return max(undecided, key=lambda release: WAY.index(release.state), default=None)


def traffic_plan(line: str, releases: Sequence[Release]) -> TrafficPlan:
    """The plan for all releases of a line, in the order of their last moves (`store.current`)."""
    champion, candidate = champion_of(releases), candidate_of(releases)
    on_trial = candidate if candidate and candidate.state in TRIAL else None
    return TrafficPlan(
        line=line,
        version=sum(release.version for release in releases),
        champion=champion.deployment if champion else None,
        candidate=on_trial.deployment if on_trial else None,
        share=SHARES.get(on_trial.state, 0.0) if on_trial else 0.0,
        shadow=on_trial is not None and on_trial.state is State.SHADOW,
        salt=on_trial.release if on_trial else "",
    )


def chooses_candidate(plan: TrafficPlan, user_key: str) -> bool:
    """Whether a user is served by the candidate."""
    return uniform(user_key, plan.salt) < plan.share
