"""What a person on call has to know, gathered from services, the events database and the kept reports.

Each part may be missing: `gather` never fails, and says of every part why it is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from components.config import Line, Params
from components.config import Release as Rules
from components.errors import AtelierError
from components.events import rechecks, window
from components.events.database import bounded
from components.lines import LINES
from components.releases import evidence, store
from components.releases.decide import Decision, decide
from components.releases.machine import TRIAL, State
from components.releases.plan import TrafficPlan, candidate_of, champion_of, traffic_plan
from components.releases.schema import Move, Release
from monitoring import history
from monitoring.deployments import Answered, answered
from monitoring.probes import Alert, Metrics, Service, look
from monitoring.traffic import by_line

WAIT_SECONDS = 2  # for the database
HOUR = 3600.0
STILL_SECONDS = 60.0  # what Prometheus saw firing so recently still does: it looks each 15 s
SAMPLE = 2000  # requests of a line that a percentile is computed from
# Objective, the recording rule of its failures, and the share of them that it allows (infra/prometheus/alerts.yml).
OBJECTIVES = (("answered", "failed", 0.01), ("in time", "slow", 0.05))


@dataclass(frozen=True)
class Objective:
    """`left`: share of three days' error budget, below 0 where more went than there was; `burn`: how many times the
    pace that would use it up exactly, over the last hour. None before there are numbers."""

    name: str
    promised: float
    left: float | None
    burn: float | None


@dataclass(frozen=True)
class Numbers:
    """A line's last hour; p95 (s) of `p95_of`. Objectives need three days of numbers, which only Prometheus has."""

    requests: float
    failed: float
    p95: float | None
    p95_of: str
    objectives: tuple[Objective, ...] = ()

    @property
    def failed_share(self) -> float:
        return self.failed / max(self.requests, 1.0)


class Role(StrEnum):
    """What a place that serves a line is to users."""

    CHAMPION = "champion"
    CANDIDATE = "candidate"
    OTHER = "other"
    SILENT = ""


@dataclass(frozen=True)
class Standing:
    """A line's releases; `decision` is what is due for the candidate on trial. `moves` come newest first.

    `beside`: what champion and candidate have answered since the candidate's last move.
    """

    champion: Release | None
    candidate: Release | None
    plan: TrafficPlan
    decision: Decision | None
    moves: list[Move]
    beside: list[Answered] = field(default_factory=list)

    @property
    def rolled_back(self) -> list[Move]:
        """The move that sent each release back which was."""
        return [move for move in self.moves if move.target is State.ROLLED_BACK]


@dataclass(frozen=True)
class LineState:
    """`places` are those where its model Bentos may answer; the others are None where nobody knows."""

    line: str
    places: list[Service]
    standing: Standing | None
    numbers: Numbers | None
    rechecked: rechecks.Summary | None = None

    def role(self, place: Service) -> Role:
        if place.problem:
            return Role.SILENT
        deployments = self._deployments
        return next((role for role, deployment in deployments.items() if deployment == place.answer), Role.OTHER)

    def nowhere(self, role: Role) -> str | None:
        """The deployment in that role if no place serves it."""
        return self._deployments.get(role) if role not in map(self.role, self.places) else None

    @property
    def _deployments(self) -> dict[Role, str | None]:
        plan = self.standing.plan if self.standing else None
        return {Role.CHAMPION: plan.champion, Role.CANDIDATE: plan.candidate} if plan else {}


@dataclass(frozen=True)
class Situation:
    """Everything on the page. `database` says why that cannot be read, empty where it can; `runs` newest first."""

    now: float
    services: dict[str, Service]
    lines: list[LineState]
    database: str
    runs: list[history.Run]

    @property
    def firing(self) -> list[Alert]:
        """By Alertmanager's word, or by Prometheus' where that is down; pages first, then the newest."""
        alerts: list[Alert] | None = self.services["alertmanager"].answer
        if alerts is None:
            alerts = [replace(alert, until=None) for last, alert in self._fired if last >= self.now - STILL_SECONDS]
        return sorted(alerts, key=lambda alert: (alert.held_back, not alert.pages, -alert.since))

    @property
    def over(self) -> list[Alert]:
        """What fired within a day and does not any more, newest first."""
        ended = [(last, alert) for last, alert in self._fired if last < self.now - STILL_SECONDS]
        return [alert for _, alert in sorted(ended, key=lambda seen: -seen[0])]

    @property
    def _fired(self) -> list[tuple[float, Alert]]:
        """What Prometheus saw firing within a day, with when it did so last."""
        metrics: Metrics | None = self.services["prometheus"].answer
        return [(alert.until or 0.0, alert) for alert in metrics.fired] if metrics else []


def gather(params: Params, urls: Mapping[str, str], now: float) -> Situation:
    """Ask, read and put together; `urls` are those at which each service says that it is ready."""
    services = look(urls)
    metrics: Metrics | None = services["prometheus"].answer
    standings: dict[Line, Standing] = {}
    numbers: dict[Line, Numbers] = {}
    rechecked: dict[Line, rechecks.Summary] = {}
    problem = ""
    try:
        url = bounded(params.events.url, WAIT_SECONDS)
        standings = {line: _standing(url, line, params.release, now) for line in LINES}
        numbers = {} if metrics else from_events(url, now)
        rechecked = {line: rechecks.summary(url, line, now, store.gone(url, line)) for line in LINES}
    except (AtelierError, SQLAlchemyError, ValueError) as error:  # the last: newer code's states
        problem = str(error)
    if metrics:
        numbers = {line: numbers_of_line for line in LINES if (numbers_of_line := from_metrics(metrics, line))}
    lines = [
        LineState(
            line,
            [services[name] for name in LINES[line].programs],
            standings.get(line),
            numbers.get(line),
            rechecked.get(line),
        )
        for line in LINES
    ]
    return Situation(now, services, lines, problem, history.load(Path(params.monitor.report)))


def _standing(url: str, line: Line, rules: Rules, now: float) -> Standing:
    releases = store.current(url, line)
    champion, candidate = champion_of(releases), candidate_of(releases)
    on_trial = candidate is not None and candidate.state in TRIAL
    decision = decide(evidence.gather(url, candidate, champion, rules), rules) if candidate and on_trial else None
    moves = store.history(url, line)[::-1]
    both = [release.deployment for release in (champion, candidate) if release]
    beside = answered(url, candidate.since, now, both) if candidate else []
    return Standing(champion, candidate, traffic_plan(line, releases), decision, moves, beside)


def from_metrics(metrics: Metrics, line: Line) -> Numbers | None:
    """None where Prometheus has no number of the line's answers yet."""

    def rule(name: str) -> float | None:
        return metrics.rules.get((f"line:atelier_{name}", line))

    answers = rule("answers:rate1h")
    if answers is None:
        return None
    objectives = []
    for name, failure, allowed in OBJECTIVES:
        days, hour = rule(f"{failure}:ratio_rate3d"), rule(f"{failure}:ratio_rate1h")
        left = None if days is None else 1 - days / allowed
        objectives.append(Objective(name, 1 - allowed, left, None if hour is None else hour / allowed))
    failed = answers * (rule("failed:ratio_rate1h") or 0.0) * HOUR
    return Numbers(answers * HOUR, failed, rule("request_seconds:p95_5m"), "5 min", tuple(objectives))


def from_events(url: str, now: float) -> dict[Line, Numbers]:
    """The same last hour from the events, without objectives."""
    _, _, counts = window.counts(url, now - HOUR, now, 1)
    samples = {str(line): window.sample(url, now - HOUR, now, line=line, rows=SAMPLE) for line in LINES}
    by_name = {
        traffic.line: Numbers(traffic.requests, traffic.errors, traffic.p95, "1 h")
        for traffic in by_line(counts, samples, now)
    }
    return {line: by_name.get(line, Numbers(0, 0, None, "1 h")) for line in LINES}
