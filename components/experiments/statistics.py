"""Statistics of a running experiment, valid however often they are looked at. Pure: users in, numbers and words out.

Every treatment against control (`comparison`), and its guardrails (`guardrails`); this folder's tests and `bench` hold
both to account by simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.config import Experiment
from components.events.schema import Kind
from components.experiments.comparison import Comparison, Verdict, compare
from components.experiments.exposures import User, roles
from components.experiments.guardrails import Guard, Status, guard

MORE: dict[str, str] = {
    "like": "is liked more than",
    "click": "is clicked more than",
    "save": "is saved more than",
    "dwell": "is looked at longer than",
}

PSEUDO_USERS = 100.0  # of the sample ratio; best where shares are some five points from what they should be
ALLOCATES = "Thompson sampling moves its weights to what is liked: no test for fixed weights applies to that."


@dataclass(frozen=True)
class Arm:
    """One variant: users, requests, and the mean over users of their outcomes in [0, 1]."""

    variant: str
    users: int
    requests: int
    mean: float


class Finding(NamedTuple):
    """A verdict and the treatments that it is of, none where it is inconclusive."""

    verdict: Verdict
    treatments: tuple[str, ...]
    reason: str

    def describe(self, control: str) -> str:
        """The verdict for people, such as "treatment better"."""
        names = " and ".join(self.treatments)
        match self.verdict:
            case Verdict.BETTER | Verdict.HARMFUL:
                return f"{names} {self.verdict}"
            case Verdict.WORSE:
                return f"{control} better"
            case Verdict.CHANGED:
                return f"the effect of {names} changed"
            case Verdict.INCONCLUSIVE:
                return "inconclusive"


@dataclass(frozen=True)
class Analysis:
    """What the experiment says now. `treatment`, `difference` and `interval` are those of the leading comparison, its
    bounds in order also where they contradict each other. `words`: the verdict, for people.

    Users count once their attribution windows have closed; those of `still_open` ones have not. `crossed_over` users
    saw several variants at once, `moved` ones another after a change of weights. `notes` says in words what was odd
    about the rows.
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
    still_open: int
    crossed_over: int
    moved: int
    verdict: Verdict
    words: str
    reason: str
    notes: tuple[str, ...]


def sample_ratio(users: Sequence[User], variants: Sequence[str]) -> float:
    """p-value, for all looks together, that users fell into `variants` by the weights at their first exposures."""
    number = {name: i for i, name in enumerate(variants)}
    got = np.array([number[user.variant] for user in users], dtype=np.int64)
    given_nK = np.array([[user.weights.get(name, 0.0) for name in variants] for user in users], dtype=np.float64)
    given_nK = given_nK.reshape(len(users), len(variants))
    return mismatch(got, given_nK / given_nK.sum(axis=1, keepdims=True))  # of a variant that is gone nobody is here


def mismatch(variant: NDArray[np.int64], given_nK: NDArray[np.float64]) -> float:
    """p-value that holds at every look, of users in order of assignment: the `variant` (n,) that each got, 0 to K - 1,
    and the probabilities (n, K) with which they should have got each, which sum to 1. 1 before the first user.

    Sequential multinomial test (Lindon and Malek 2022). Before each user, those who came earlier predict with which
    probability they get each variant: the given one, times how much more often than given the variant came so far
    (`PSEUDO_USERS` count as if it came as given). The product over users of predicted by given probability, at the
    variant that they got, is a likelihood ratio whose factors have mean 1 where the weights are right, whatever they
    were at each user: by Ville's inequality it ever reaches 1/p with probability p at most. Where weights never change
    it is the Bayes factor of a Dirichlet-multinomial mixture. The package `ville` has this for two variants of constant
    weights only.
    """
    if not variant.size:
        return 1.0
    came_nK = np.eye(given_nK.shape[1])[variant]
    earlier_nK, expected_nK = (np.cumsum(each, axis=0) - each for each in (came_nK, given_nK))
    prior_nK = PSEUDO_USERS * given_nK
    more_nK = (earlier_nK + prior_nK) / np.where(given_nK > 0, expected_nK + prior_nK, 1.0)
    predicted_nK = given_nK * more_nK
    rows = np.arange(variant.size)
    given = given_nK[rows, variant]
    if not np.all(given > 0):  # a variant that nobody could get
        return 0.0
    predicted = predicted_nK[rows, variant] / predicted_nK.sum(axis=1)
    evidence = np.cumsum(np.log(predicted / given))
    return float(min(1.0, np.exp(-evidence.max())))


def analyse(experiment: Experiment, everyone: Sequence[User], still_open: Sequence[User] = ()) -> Analysis:
    """Analyse users whose windows have closed: `control` (or the first variant by name) against every other.

    Of those whose windows are `still_open` only the variant is known for good: the sample ratio counts them.
    A user seen in several variants at once is left out and counted, as nothing they did can be credited to one of them.
    Weights that an operator changed leave comparisons valid, as each user is weighted by those at their first exposure.
    Thompson's follow the outcomes themselves, and decide who is moved: there is no comparison then, and no guardrail.
    """
    users = [user for user in everyone if not user.crossed]
    metric, weights = experiment.metric, experiment.weights
    control, treatments = roles(weights)
    margins = experiment.guardrails.margins() if experiment.guardrails else {}
    arms = tuple(_arm(name, users, metric) for name in sorted(weights))
    assigned = [*users, *(user for user in still_open if not user.crossed)]
    p_value = sample_ratio(sorted(assigned, key=lambda user: user.first), sorted(weights))
    fixed = experiment.policy == "fixed"
    comparisons = compare(users, metric, weights, experiment.alpha, cuped=True) if fixed else ()
    guards = guard(users, weights, margins, experiment.alpha) if fixed else ()
    lead = max(comparisons, key=lambda c: (c.interval[0], c.difference), default=Comparison(control, 0, (-1, 1), 0))
    unexplained = any(user.unexplained for user in everyone)
    srm = p_value < experiment.srm_alpha
    finding = decide(control, comparisons, guards, srm, unexplained, MORE[metric])
    low, high = sorted(lead.interval)
    return Analysis(
        experiment=experiment.name,
        metric=metric,
        control=control,
        treatment=lead.treatment,
        arms=arms,
        difference=lead.difference,
        interval=(low, high),
        comparisons=comparisons,
        guards=guards,
        alpha=experiment.alpha,
        srm_p_value=p_value,
        srm=srm,
        still_open=len(still_open),
        crossed_over=len(everyone) - len(users),
        moved=sum(user.moved for user in users),
        verdict=finding.verdict,
        words=finding.describe(control),
        reason=finding.reason if fixed or srm or unexplained else ALLOCATES,
        notes=_notes(assigned, [control, *treatments], [user.outcome(metric) for user in users]),
    )


def decide(
    control: str, comparisons: Sequence[Comparison], guards: Sequence[Guard], srm: bool, unexplained: bool, more: str
) -> Finding:
    """The verdict, of whom, and its reason, in which `more` says what a winner does; a broken experiment is
    inconclusive."""
    if unexplained:
        reason = "Some requests have a propensity that no recorded version of the weights gave them: find the bug."
        return Finding(Verdict.INCONCLUSIVE, (), reason)
    if srm:
        reason = "Users did not fall into the variants by their weights (sample-ratio mismatch): find the bug."
        return Finding(Verdict.INCONCLUSIVE, (), reason)
    harms = [g for g in guards if g.status is Status.HARM]
    harmed = {g.treatment for g in harms}
    winners = [c for c in comparisons if c.verdict is Verdict.BETTER and c.treatment not in harmed]
    if winners:
        best = max(winners, key=lambda c: c.interval[0]).treatment
        also = "".join(f" {c.treatment} beats it too." for c in winners if c.treatment != best)
        reason = f"The whole interval lies above 0: {best} {more} {control}.{also}"
        return Finding(Verdict.BETTER, (best,), reason)
    if harms:
        listed = "; ".join(
            f"{g.treatment}: {g.guardrail} beyond the margin of {100 * g.margin:g} points" for g in harms
        )
        reason = f"A guardrail is broken ({listed}): take it out of the traffic."
        return Finding(Verdict.HARMFUL, tuple(sorted(harmed)), reason)
    if changed := [c for c in comparisons if c.verdict is Verdict.CHANGED]:
        listed = " ".join(_turned(control, c, more) for c in changed)
        reason = f"{listed} End it, and begin another to learn what holds now."
        return Finding(Verdict.CHANGED, tuple(c.treatment for c in changed), reason)
    if comparisons and all(c.verdict is Verdict.WORSE for c in comparisons):
        names = tuple(c.treatment for c in comparisons)
        reason = f"The whole interval lies below 0: {control} {more} {' and '.join(names)}."
        return Finding(Verdict.WORSE, names, reason)
    reason = "The interval contains 0: the data so far agree with no difference. More users narrow it."
    return Finding(Verdict.INCONCLUSIVE, (), reason)


def _turned(control: str, comparison: Comparison, more: str) -> str:
    """How the effect of a treatment changed."""
    name, turned = comparison.treatment, comparison.shift
    if turned is None:
        return f"No one difference of {name} to {control} explains all users so far."
    day = datetime.fromtimestamp(turned.since, UTC).strftime("%Y-%m-%d")
    who, whom = (name, control) if turned.mean > 0 else (control, name)
    return f"Since {day} {who} {more} {whom}, by the {turned.users} users who came from then on, unlike by all so far."


def _arm(variant: str, users: Sequence[User], metric: Kind) -> Arm:
    mine = [user for user in users if user.variant == variant]
    mean = sum(user.outcome(metric) for user in mine) / len(mine) if mine else 0.0
    return Arm(variant, len(mine), sum(user.counted.requests for user in mine), mean)


def _notes(assigned: Sequence[User], names: Sequence[str], outcomes: Sequence[float]) -> tuple[str, ...]:
    seen = {user.variant for user in assigned}
    notes = [f"No user has seen {name} yet." for name in names if assigned and name not in seen]
    if len(outcomes) > 1 and len(set(outcomes)) == 1:
        notes.append(f"Every user's outcome is {outcomes[0]:g}: check that reactions are recorded.")
    return tuple(notes)
