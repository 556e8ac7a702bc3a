"""What somebody on call should look at, most urgent first. Pure: from what is known to a verdict in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from components.experiments.comparison import Verdict
from components.releases.decide import Action
from monitoring.advice import ERROR_RATE_ACT, ERROR_RATE_WATCH, ORDER, Urgency
from monitoring.history import Look
from monitoring.page import percent
from monitoring.situation import LineState, Role, Situation

FEW = 20  # of fewer requests, one failure is no rate
DAY, HOUR = 86_400.0, 3600.0
WITHOUT = {
    "prometheus": "no error budgets, and no alert fires",
    "alertmanager": "nobody is told of alerts",
    "prefect": "nothing scheduled runs: no training, no report",
    "mlflow": "nothing can be released",
}


@dataclass(frozen=True)
class Concern:
    """What to look at, in a word, and why; `section` of the page has more."""

    urgency: Urgency
    title: str
    message: str
    section: str


def concerns(situation: Situation) -> list[Concern]:
    urgent = [concern for line in situation.lines for concern in _serving(line)]
    urgent += [*_alerts(situation), *_services(situation)]
    for line in situation.lines:
        urgent += [*_numbers(line), *_releases(line, situation.now)]
    urgent += _reports(situation)
    return sorted(urgent, key=lambda concern: ORDER.index(concern.urgency))


def verdict(concerns: list[Concern]) -> str:
    """One line: that all is well, or what to look at."""
    if not concerns:
        return "All well"
    names = list(dict.fromkeys(concern.title for concern in concerns))
    shown = names[:3] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return "Look at " + " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _services(situation: Situation) -> Iterator[Concern]:
    gateway = situation.services["gateway"]
    if gateway.problem:
        message = f"The gateway is not ready ({gateway.problem}): users get no answers. Begin with `atelier status`."
        yield Concern(Urgency.ACT, "the gateway", message, "services")
    if situation.database:
        message = f"The events database cannot be read: {situation.database}"
        yield Concern(Urgency.ACT, "the events database", message, "releases")
    for name, loss in WITHOUT.items():
        if problem := situation.services[name].problem:
            title = {"mlflow": "MLflow"}.get(name, name.capitalize())
            yield Concern(Urgency.WATCH, title, f"{title} is not there ({problem}): {loss}.", "services")


def _alerts(situation: Situation) -> Iterator[Concern]:
    for alert in situation.firing:
        if not alert.held_back:
            urgency = Urgency.ACT if alert.pages else Urgency.WATCH
            message = alert.summary or f"fires for {alert.about or 'the whole service'}."
            yield Concern(urgency, alert.name, f"{alert.name}: {message}", "alerts")


def _serving(line: LineState) -> Iterator[Concern]:
    if all(place.problem for place in line.places):
        problem = line.places[0].problem
        yield Concern(Urgency.ACT, f"the {line.line} line", f"No {line.line} model answers ({problem}).", line.line)
    elif missing := line.nowhere(Role.CHAMPION):
        served = ", ".join(place.answer for place in line.places if not place.problem)
        message = f"{line.line} is served by {served}, not by its champion {missing}: "
        message += "`atelier release start` completes that."
        yield Concern(Urgency.ACT, f"the {line.line} line", message, line.line)
    if candidate := line.nowhere(Role.CANDIDATE):
        message = f"{candidate} is on trial on {line.line} and no process serves it: the champion answers for it."
        yield Concern(Urgency.WATCH, f"the {line.line} candidate", message, line.line)


def _numbers(line: LineState) -> Iterator[Concern]:
    numbers = line.numbers
    if numbers and numbers.requests >= FEW and numbers.failed_share >= ERROR_RATE_WATCH:
        urgency = Urgency.ACT if numbers.failed_share >= ERROR_RATE_ACT else Urgency.WATCH
        failed = f"{percent(numbers.failed_share)} of {numbers.requests:.0f} {line.line} requests"
        yield Concern(urgency, f"the {line.line} line", f"{failed} failed within an hour.", line.line)


def _releases(line: LineState, now: float) -> Iterator[Concern]:
    known = line.standing
    if known is None:
        return
    if known.champion is None:
        yield Concern(Urgency.WATCH, f"the {line.line} line", f"{line.line} has no champion yet.", line.line)
    if known.candidate and known.decision and known.decision.action is Action.ROLL_BACK:
        message = f"{known.candidate.release} is to go back: {known.decision.why}."
        message += " The next step does it, within a minute."
        yield Concern(Urgency.ACT, f"the {line.line} candidate", message, line.line)
    for move in known.rolled_back:
        if now - move.time < DAY:
            message = f"{move.release} was rolled back by {move.who}: {move.why}"
            yield Concern(Urgency.WATCH, "a rollback", message, "releases")


def _reports(situation: Situation) -> Iterator[Concern]:
    if not situation.runs:
        message = "No report is kept yet: `atelier report write` writes one."
        yield Concern(Urgency.WATCH, "the reports", message, "drift")
        return
    newest = situation.runs[0]
    if situation.now - newest.past.until > 2 * HOUR:
        old = (situation.now - newest.past.until) / HOUR
        message = f"The newest report is {old:.0f} hours old and a schedule writes one each hour: see Prefect."
        yield Concern(Urgency.WATCH, "the reports", message, "drift")
    if moved := [f"{drift.name} ({drift.severity})" for drift in newest.past.drifts if drift.moved]:
        yield Concern(Urgency.WATCH, "drift", f"Drift of {', '.join(moved)}.", "drift")
    for look in newest.looks:
        yield from _experiment(look)


def _experiment(look: Look) -> Iterator[Concern]:
    if look.srm or look.verdict is not Verdict.INCONCLUSIVE:
        harm = look.srm or look.verdict in (Verdict.HARMFUL, Verdict.CHANGED)
        message = f"{look.name}: {look.words}. {look.reason}"
        yield Concern(Urgency.ACT if harm else Urgency.WATCH, "the experiment", message, "experiment")
