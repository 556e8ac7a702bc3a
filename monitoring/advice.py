"""What to do next, in words, from a report's numbers. Pure; the most urgent advice comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from components.experiments.comparison import Verdict
from components.experiments.statistics import Analysis
from monitoring.drift import Drift, Severity, named
from monitoring.traffic import LineTraffic

ERROR_RATE_ACT, ERROR_RATE_WATCH = 0.05, 0.01
RETRAIN = "Have a sample of this window annotated, add it to the training data and train again."
DISLIKED = (
    "Read answers that were disliked (`atelier report why <response-id>`); where a release began it, roll it back."
)
REMEDIES = {
    "latency (s)": "Compare load, batch sizes and deployments; add a replica, or roll back the release that began it.",
    "output tokens": "Answers changed length: compare deployments and sampling parameters.",
    "reacted": "Users react more or less often: check that the client still sends feedback before reading it.",
    "liked of those who reacted": DISLIKED,
}
TAIL = 4.0  # a 95th percentile this many times the median points at queueing rather than at slow work


class Urgency(StrEnum):
    """When somebody should look, the most urgent first."""

    ACT = "act"
    WATCH = "watch"
    FINE = "fine"


ORDER = tuple(Urgency)


@dataclass(frozen=True)
class Advice:
    """What to do, in words; `experiment`: which one it is about, if it is about one."""

    urgency: Urgency
    words: str
    experiment: str = ""


def advise(
    traffic: Sequence[LineTraffic], drifts: Sequence[Drift], experiments: Sequence[Analysis], simulated: bool
) -> list[Advice]:
    """All advice, most urgent first; never empty. `simulated`: some of the experiments' users were no people."""
    advice = [a for line in traffic for a in on_traffic(line)]
    advice += [*on_drift(drifts), *(on_experiment(experiment, simulated) for experiment in experiments)]
    if not traffic:
        message = "No request arrived in this window: check that the gateway runs and is reachable."
        advice.append(Advice(Urgency.ACT, message))
    return sorted(advice, key=lambda advice: ORDER.index(advice.urgency))


def on_traffic(line: LineTraffic) -> list[Advice]:
    """Advice on failures, unfinished requests and queues of a line; that all is well where there are none."""
    advice: list[Advice] = []
    if line.error_rate >= ERROR_RATE_WATCH:
        statuses = ", ".join(f"{count} with status {status}" for status, count in line.statuses.items())
        urgency = Urgency.ACT if line.error_rate >= ERROR_RATE_ACT else Urgency.WATCH
        rate = f"{100 * line.error_rate:.1f} % of {line.line} requests failed ({statuses})"
        advice.append(Advice(urgency, f"{rate}: read the {line.line} service's log for that time."))
    if line.unfinished:
        message = f"{line.unfinished} {line.line} requests were accepted and have not ended"
        advice.append(Advice(Urgency.WATCH, f"{message}: still running, or the gateway was killed while they ran."))
    if line.p50 is not None and line.p95 is not None and line.p95 > TAIL * line.p50 and line.ok >= 20:
        times = f"{line.line}: p95 is {line.p95 / line.p50:.1f} times the median"
        advice.append(Advice(Urgency.WATCH, f"{times}. Requests queue; add a replica or lower the concurrency."))
    if line.requests and not advice:
        answered = f"{line.line}: {line.ok} of {line.requests} requests answered"
        advice.append(Advice(Urgency.FINE, f"{answered}; nothing to do."))
    return advice


def on_drift(drifts: Sequence[Drift]) -> list[Advice]:
    """One piece of advice for each thing that moved: `ACT` only where it has moved for several windows."""
    advice: list[Advice] = []
    for drift in drifts:
        if not drift.moved:
            continue
        what = f"{drift.name} moved away from {drift.against}: {named(drift.moved)}"
        if drift.severity is Severity.ACT:
            windows = max(test.windows for test in drift.moved)
            remedies = dict.fromkeys(REMEDIES.get(test.column, RETRAIN) for test in drift.moved)
            advice.append(Advice(Urgency.ACT, f"{what}, for {windows} windows in a row. {' '.join(remedies)}"))
        else:
            advice.append(Advice(Urgency.WATCH, f"{what}. Look again after the next window: one is no proof."))
    unchecked = [drift.name for drift in drifts if drift.severity is Severity.NOT_ENOUGH_DATA]
    if unchecked:
        message = f"Not enough data to check drift of {', '.join(unchecked)}"
        advice.append(Advice(Urgency.WATCH, f"{message}: widen the window or wait for more traffic."))
    if drifts and not advice:
        advice.append(Advice(Urgency.FINE, "No drift was found in what was checked."))
    return advice


def on_experiment(result: Analysis, simulated: bool) -> Advice:
    """Advice on an experiment's verdict: act on harm and on what people decided, wait for the rest."""
    name, urgency = result.experiment, Urgency.ACT
    winner = result.treatment if result.verdict is Verdict.BETTER else result.control
    if result.srm:
        message = f"Experiment {name}: {result.reason}"
    elif result.verdict is Verdict.INCONCLUSIVE:
        message = f"Experiment {name} is inconclusive: keep it running. {result.reason}"
        urgency = Urgency.WATCH
    elif result.verdict in (Verdict.HARMFUL, Verdict.CHANGED):
        message = f"Experiment {name}: {result.words}. {result.reason}"
    elif simulated:
        message = f"Experiment {name}: {winner} is better for a simulated audience. "
        message += "That tests the machinery; decide on real users only."
        urgency = Urgency.WATCH
    else:
        end = f"`atelier experiment end {name}`"
        message = f"Experiment {name}: {winner} is better. Make it the default and end it ({end})."
    return Advice(urgency, message, name)
