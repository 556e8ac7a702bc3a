"""What somebody on call should look at, most urgent first. Pure: from what is known to a verdict in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from components.experiments.comparison import Verdict
from components.releases.decide import Action
from monitoring.advice import ERROR_RATE_ACT, ERROR_RATE_WATCH, ORDER, Urgency
from monitoring.history import Look
from monitoring.page import percent
from monitoring.situation import LineState, Situation

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
    """`what` to look at, in a word; `words` say why; `section` of the page has more."""

    urgency: Urgency
    what: str
    words: str
    section: str


def concerns(situation: Situation) -> list[Concern]:
    found = [concern for line in situation.lines for concern in _serving(line)]
    found += [*_alerts(situation), *_services(situation)]
    for line in situation.lines:
        found += [*_numbers(line), *_releases(line, situation.now)]
    found += _reports(situation)
    return sorted(found, key=lambda concern: ORDER[concern.urgency])


def verdict(found: list[Concern]) -> str:
    """One line: that all is well, or what to look at."""
    if not found:
        return "All well"
    names = list(dict.fromkeys(concern.what for concern in found))
    shown = names[:3] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return "Look at " + " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _services(situation: Situation) -> Iterator[Concern]:
    gateway = situation.services["gateway"]
    if gateway.problem:
        say = f"The gateway is not ready ({gateway.problem}): users get no answers. Begin with `atelier status`."
        yield Concern("act", "the gateway", say, "services")
    if situation.database:
        say = f"The events database cannot be read: {situation.database}"
        yield Concern("act", "the events database", say, "releases")
    for name, loss in WITHOUT.items():
        if problem := situation.services[name].problem:
            title = {"mlflow": "MLflow"}.get(name, name.capitalize())
            yield Concern("watch", title, f"{title} is not there ({problem}): {loss}.", "services")


def _alerts(situation: Situation) -> Iterator[Concern]:
    for alert in situation.firing:
        if not alert.held_back:
            urgency: Urgency = "act" if alert.severity == "page" else "watch"
            say = alert.summary or f"fires for {alert.about or 'the whole service'}."
            yield Concern(urgency, alert.name, f"{alert.name}: {say}", "alerts")


def _serving(line: LineState) -> Iterator[Concern]:
    if all(place.problem for place in line.places):
        problem = line.places[0].problem
        yield Concern("act", f"the {line.line} line", f"No {line.line} model answers ({problem}).", line.line)
    elif missing := line.nowhere("champion"):
        served = ", ".join(place.said for place in line.places if not place.problem)
        say = (
            f"{line.line} is served by {served}, not by its champion {missing}: `atelier release start` completes that."
        )
        yield Concern("act", f"the {line.line} line", say, line.line)
    if candidate := line.nowhere("candidate"):
        say = f"{candidate} is on trial on {line.line} and no process serves it: the champion answers for it."
        yield Concern("watch", f"the {line.line} candidate", say, line.line)


def _numbers(line: LineState) -> Iterator[Concern]:
    if line.numbers and line.numbers.requests >= FEW and line.numbers.failed_share >= ERROR_RATE_WATCH:
        share = line.numbers.failed_share
        say = f"{percent(share)} of {line.numbers.requests:.0f} {line.line} requests failed within an hour."
        yield Concern("act" if share >= ERROR_RATE_ACT else "watch", f"the {line.line} line", say, line.line)


def _releases(line: LineState, now: float) -> Iterator[Concern]:
    known = line.standing
    if known is None:
        return
    if known.champion is None:
        yield Concern("watch", f"the {line.line} line", f"{line.line} has no champion yet.", line.line)
    if known.candidate and known.decision and known.decision.action is Action.ROLL_BACK:
        say = f"{known.candidate.release} is to go back: {known.decision.why}. The next step does it, within a minute."
        yield Concern("act", f"the {line.line} candidate", say, line.line)
    for move in known.rolled_back:
        if now - move.time < DAY:
            yield Concern(
                "watch", "a rollback", f"{move.release} was rolled back by {move.who}: {move.why}", "releases"
            )


def _reports(situation: Situation) -> Iterator[Concern]:
    if not situation.runs:
        yield Concern("watch", "the reports", "No report is kept yet: `atelier report write` writes one.", "drift")
        return
    newest = situation.runs[0]
    if situation.now - newest.past.until > 2 * HOUR:
        old = (situation.now - newest.past.until) / HOUR
        say = f"The newest report is {old:.0f} hours old and a schedule writes one each hour: see Prefect."
        yield Concern("watch", "the reports", say, "drift")
    if moved := [f"{drift.name} ({drift.severity})" for drift in newest.past.drifts if drift.moved]:
        yield Concern("watch", "drift", f"Drift of {', '.join(moved)}.", "drift")
    for look in newest.looks:
        yield from _experiment(look)


def _experiment(look: Look) -> Iterator[Concern]:
    if look.srm or look.verdict is not Verdict.INCONCLUSIVE:
        harm = look.srm or look.verdict in (Verdict.HARMFUL, Verdict.CHANGED)
        say = f"{look.name}: {look.words}. {look.reason}"
        yield Concern("act" if harm else "watch", "the experiment", say, "experiment")
