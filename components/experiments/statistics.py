"""Statistics of a running experiment, valid however often they are looked at. Pure: rows in, numbers and words out.

Every treatment against control (`comparison`), and its guardrails (`guardrails`); this folder's tests and `bench` hold
both to account by simulation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from components.config import Experiment
from components.events.schema import Kind
from components.experiments.comparison import Comparison, compare, confidence_sequence
from components.experiments.exposures import Exposure, User, by_user, check
from components.experiments.guardrails import Guard, guard

__all__ = ["Analysis", "Arm", "Exposure", "analyse", "confidence_sequence", "decide", "sample_ratio"]

MORE: dict[str, str] = {
    "like": "is liked more than",
    "click": "is clicked more than",
    "save": "is saved more than",
    "dwell": "is looked at longer than",
}


@dataclass(frozen=True)
class Arm:
    """One variant: users, requests, and the mean over users of their outcomes in [0, 1]."""

    variant: str
    users: int
    requests: int
    mean: float


@dataclass(frozen=True)
class Analysis:
    """What the experiment says now. `treatment`, `difference` and `interval` are those of the leading comparison.

    `notes` says in words what was odd about the rows.
    """

    experiment: str
    metric: Kind
    control: str
    treatment: str
    arms: tuple[Arm, ...]
    difference: float
    interval: tuple[float, float]
    comparisons: tuple[Comparison, ...]
    guards: tuple[Guard, ...]
    alpha: float
    srm_p_value: float
    srm: bool
    crossed_over: int
    verdict: str
    reason: str
    notes: tuple[str, ...]


def sample_ratio(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """p-value of Pearson's chi-square test that users fell into variants by their weights; 1 before the first user."""
    total = sum(counts.values())
    names = [name for name, weight in weights.items() if weight > 0]
    if total == 0 or len(names) < 2:
        return 1.0
    observed = [counts.get(name, 0) for name in names]
    expected = [weights[name] for name in names]
    scaled = [sum(observed) * weight / sum(expected) for weight in expected]
    return float(stats.chisquare(observed, scaled).pvalue)


def analyse(
    experiment: Experiment,
    exposures: Iterable[Exposure],
    before: Mapping[str, float] | None = None,
    now: float = float("inf"),
) -> Analysis:
    """Analyse all exposures of an experiment so far: `control` (or the first variant by name) against every other.

    `before`: users' outcomes before they entered. A user seen in several variants is left out and
    counted, as nothing they did can be credited to one of them; so is a request later than `now` (epoch s). Raises
    `ExperimentError` for a value that is no number or a propensity outside (0, 1].
    """
    known = [row for row in exposures if row.variant in experiment.variants]
    check(known)
    rows = [row for row in known if row.time <= now]
    everyone = by_user(rows, before or {})
    users = [user for user in everyone.values() if user is not None]
    weights = {name: variant.weight for name, variant in experiment.variants.items()}
    control, treatments = roles(weights)
    margins = experiment.guardrails.margins() if experiment.guardrails else {}
    arms = tuple(_arm(name, users) for name in sorted(weights))
    p_value = sample_ratio({arm.variant: arm.users for arm in arms}, weights)
    comparisons = compare(users, control, treatments, weights, experiment.alpha)
    guards = guard(users, control, treatments, weights, margins, experiment.alpha)
    lead = max(comparisons, key=lambda c: (c.interval[0], c.difference), default=Comparison(control, 0, (-1, 1), 0))
    reweighted = any(abs(row.propensity - weights[row.variant]) > 1e-9 for row in rows)
    verdict, reason = decide(
        control, comparisons, guards, p_value < experiment.srm_alpha, reweighted, MORE[experiment.metric]
    )
    return Analysis(
        experiment=experiment.name,
        metric=experiment.metric,
        control=control,
        treatment=lead.treatment,
        arms=arms,
        difference=lead.difference,
        interval=lead.interval,
        comparisons=comparisons,
        guards=guards,
        alpha=experiment.alpha,
        srm_p_value=p_value,
        srm=p_value < experiment.srm_alpha,
        crossed_over=sum(user is None for user in everyone.values()),
        verdict=verdict,
        reason=reason,
        notes=_notes(users, [control, *treatments], len(known) - len(rows)),
    )


def decide(
    control: str,
    comparisons: Sequence[Comparison],
    guards: Sequence[Guard],
    srm: bool,
    reweighted: bool,
    more: str = MORE["like"],
) -> tuple[str, str]:
    """Verdict and its reason, in which `more` says what a winner does; a broken experiment is inconclusive."""
    if reweighted:
        return (
            "inconclusive",
            "The variants' weights changed while it ran: give it a new name and salt and start again.",
        )
    if srm:
        return (
            "inconclusive",
            "Users did not fall into the variants by their weights (sample-ratio mismatch): find the bug.",
        )
    harms = [g for g in guards if g.status == "harm"]
    harmed = {g.treatment for g in harms}
    winners = [c for c in comparisons if c.interval[0] > 0 and c.treatment not in harmed]
    if winners:
        best = max(winners, key=lambda c: c.interval[0]).treatment
        also = "".join(f" {c.treatment} beats it too." for c in winners if c.treatment != best)
        return f"{best} better", f"The whole interval lies above 0: {best} {more} {control}.{also}"
    if harms:
        told = "; ".join(f"{g.treatment}: {g.guardrail} beyond the margin of {100 * g.margin:g} points" for g in harms)
        return f"{' and '.join(sorted(harmed))} harmful", f"A guardrail is broken ({told}): take it out of the traffic."
    if comparisons and all(c.interval[1] < 0 for c in comparisons):
        names = " and ".join(c.treatment for c in comparisons)
        return f"{control} better", f"The whole interval lies below 0: {control} {more} {names}."
    return "inconclusive", "The interval contains 0: the data so far agree with no difference. More users narrow it."


def roles(weights: Mapping[str, float]) -> tuple[str, list[str]]:
    """(control, treatments): `control`, or the first by name, against every other that gets traffic."""
    names = sorted(name for name, weight in weights.items() if weight > 0)
    control = "control" if "control" in names else names[0]
    return control, [name for name in names if name != control]


def _arm(variant: str, users: Sequence[User]) -> Arm:
    mine = [user for user in users if user.variant == variant]
    mean = sum(user.outcome for user in mine) / len(mine) if mine else 0.0
    return Arm(variant, len(mine), sum(user.requests for user in mine), mean)


def _notes(users: Sequence[User], names: Sequence[str], future: int) -> tuple[str, ...]:
    seen = {user.variant for user in users}
    notes = [f"No user has seen {name} yet." for name in names if users and name not in seen]
    if len(users) > 1 and len({user.outcome for user in users}) == 1:
        notes.append(f"Every user's outcome is {users[0].outcome:g}: check that reactions are recorded.")
    if future:
        notes.append(f"A clock jumped: requests that carry a time in the future and are left out: {future}.")
    return tuple(notes)
