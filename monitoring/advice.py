"""What to do next, in words, from a report's numbers. Pure; the most urgent advice comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.experiments.comparison import Verdict
from components.experiments.statistics import Analysis
from monitoring.drift import Drift, named
from monitoring.traffic import LineTraffic

Urgency = Literal["act", "watch", "fine"]
ORDER = {"act": 0, "watch": 1, "fine": 2}
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


@dataclass(frozen=True)
class Advice:
    urgency: Urgency
    words: str


def advise(
    traffic: Sequence[LineTraffic], drifts: Sequence[Drift], experiments: Sequence[Analysis], simulated: bool
) -> list[Advice]:
    """All advice, most urgent first; never empty. `simulated`: some of the experiments' users were no people."""
    found = [a for line in traffic for a in on_traffic(line)]
    found += [*on_drift(drifts), *(on_experiment(experiment, simulated) for experiment in experiments)]
    if not traffic:
        found.append(Advice("act", "No request arrived in this window: check that the gateway runs and is reachable."))
    return sorted(found, key=lambda advice: ORDER[advice.urgency])


def on_traffic(line: LineTraffic) -> list[Advice]:
    found = []
    if line.error_rate >= ERROR_RATE_WATCH:
        statuses = ", ".join(f"{count} with status {status}" for status, count in line.statuses.items())
        urgency: Urgency = "act" if line.error_rate >= ERROR_RATE_ACT else "watch"
        rate = f"{100 * line.error_rate:.1f} % of {line.line} requests failed ({statuses})"
        found.append(Advice(urgency, f"{rate}: read the {line.line} service's log for that time."))
    if line.unfinished:
        say = f"{line.unfinished} {line.line} requests were accepted and have not ended"
        found.append(Advice("watch", f"{say}: still running, or the gateway was killed while they ran."))
    if line.p50 is not None and line.p95 is not None and line.p95 > TAIL * line.p50 and line.ok >= 20:
        times = f"p95 is {line.p95 / line.p50:.1f} times the median"
        found.append(Advice("watch", f"{line.line}: {times}. Requests queue; add a replica or lower the concurrency."))
    if line.requests and not found:
        found.append(Advice("fine", f"{line.line}: {line.ok} of {line.requests} requests answered; nothing to do."))
    return found


def on_drift(drifts: Sequence[Drift]) -> list[Advice]:
    """One piece of advice for each thing that moved: "act" only where it has moved for several windows."""
    found = []
    for drift in drifts:
        if not drift.moved:
            continue
        what = f"{drift.name} moved away from {drift.against}: {named(drift.moved)}"
        if drift.severity == "act":
            windows = max(test.windows for test in drift.moved)
            found.append(Advice("act", f"{what}, for {windows} windows in a row. {' '.join(what_to_do(drift))}"))
        else:
            found.append(Advice("watch", f"{what}. Look again after the next window: one is no proof."))
    unchecked = [drift.name for drift in drifts if drift.severity == "not enough data"]
    if unchecked:
        say = f"Not enough data to check drift of {', '.join(unchecked)}: widen the window or wait for more traffic."
        found.append(Advice("watch", say))
    if drifts and not found:
        found.append(Advice("fine", "No drift was found in what was checked."))
    return found


def what_to_do(drift: Drift) -> list[str]:
    """Sentences that say what to do about the columns that moved, each once."""
    return list(dict.fromkeys(REMEDIES.get(test.column, RETRAIN) for test in drift.moved))


def on_experiment(result: Analysis, simulated: bool) -> Advice:
    if result.srm:
        return Advice("act", f"Experiment {result.experiment}: {result.reason}")
    if result.verdict is Verdict.INCONCLUSIVE:
        return Advice("watch", f"Experiment {result.experiment} is inconclusive: keep it running. {result.reason}")
    if result.verdict in (Verdict.HARMFUL, Verdict.CHANGED):
        return Advice("act", f"Experiment {result.experiment}: {result.words}. {result.reason}")
    winner = result.treatment if result.verdict is Verdict.BETTER else result.control
    if simulated:
        say = f"Experiment {result.experiment}: {winner} is better for a simulated audience"
        return Advice("watch", f"{say}. That tests the machinery; decide on real users only.")
    end = f"`atelier experiment end {result.experiment}`"
    return Advice("act", f"Experiment {result.experiment}: {winner} is better. Make it the default and end it ({end}).")
