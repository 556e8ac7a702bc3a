"""How accurate each person's answers are, and how likely several answers together make each label.

The true labels are estimated from all answers by Dawid and Skene's model (crowd-kit). From them come one accuracy for
each person, whatever the label, and which wrong label is taken for which, learned from everybody together: no single
person has given enough answers for a table of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from crowdkit.aggregation import DawidSkene
from numpy.typing import NDArray
from scipy import stats

from components.annotation.workflow import Answer, Tier
from components.config import Tiers

PRIOR = 10.0  # answers that the expected accuracy of somebody new counts for: a person needs about as many of their own
DISPUTED = 0.99  # a gold label is doubted where three answers or more make another label as likely as this
# Of the likelihood, per answer: the model is fitted until a step adds less.
TOLERANCE, MOST_STEPS = 1e-5, 1000

Floats = NDArray[np.float64]
Answers = Mapping[int, Sequence[Answer]]  # by task


@dataclass(frozen=True)
class Crowd:
    """The people's estimated accuracies; `mistakes_CC[truth, answer]`: the chance of an answer, given it is wrong.

    `confusion_CC`, `probable`: Dawid and Skene's model itself, of tasks with two answers or more.
    """

    labels: tuple[str, ...]
    expected: Mapping[Tier, float]  # accuracy of somebody who has not answered yet
    mistakes_CC: Floats
    accuracy: Mapping[str, float] = field(default_factory=dict)
    counted: Mapping[str, float] = field(default_factory=dict)  # answers by person that the accuracy rests on
    disputed: Mapping[int, str] = field(default_factory=dict)  # gold tasks, and the label that the answers say instead
    confusion_CC: Mapping[str, Floats] = field(default_factory=dict)  # each person's, truth by answer
    probable: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # each task's labels

    @cached_property
    def _place(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    def aggregate(self, answers: Sequence[Answer]) -> tuple[str, float]:
        """The likeliest label, and how likely it is; every label is as likely before the first answer."""
        log_C = np.zeros(len(self.labels))
        for answer in answers:
            if answer.label in self._place:
                place = self._place[answer.label]
                right = self.accuracy.get(answer.person, self.expected[answer.tier])
                likelihood_C = (1 - right) * self.mistakes_CC[:, place]
                likelihood_C[place] = right
                log_C += np.log(likelihood_C)
        likelihood_C = np.exp(log_C - log_C.max())
        posterior_C = likelihood_C / likelihood_C.sum()
        best = int(posterior_C.argmax())
        return self.labels[best], float(posterior_C[best])

    def unfit(self, accuracy: float) -> set[str]:
        """The people whose accuracy is below that with 97.5 % certainty (Beta posterior)."""
        total = {person: PRIOR + count for person, count in self.counted.items()}
        right = {person: self.accuracy[person] * count for person, count in total.items()}
        upper = stats.beta.ppf(0.975, [*right.values()], [total[p] - right[p] for p in right])
        return {person for person, bound in zip(right, upper, strict=True) if bound < accuracy}


def unknown_crowd(labels: Sequence[str], tiers: Tiers) -> Crowd:
    """A crowd before anybody has answered."""
    count = len(labels)
    evenly_CC = (1 - np.eye(count)) / max(count - 1, 1)
    return Crowd(tuple(labels), {tier: tiers.expected[tier] for tier in Tier}, evenly_CC)


def estimate_crowd(answers: Answers, gold: Mapping[int, str], labels: Sequence[str], tiers: Tiers) -> Crowd:
    """Estimate the people's accuracies from their answers; `gold`: the known label of each gold task.

    A gold label that three answers or more contradict almost surely counts for nobody and against nobody until a lead
    has looked at it. A task of one answer tells nothing of anybody, unless it is gold.
    """
    several = {task: given for task, given in answers.items() if len(given) > 1 or task in gold}
    rows = [(task, a.person, a.label) for task, given in several.items() for a in given if a.label in labels]
    confusion_CC, probable = _fitted([row for row in rows if len(several[row[0]]) > 1], labels)
    crowd = _crowd(rows, probable, answers, unknown_crowd(labels, tiers))
    answered = [task for task in gold.keys() & several.keys() if len(several[task]) > 2]
    aggregated = {task: crowd.aggregate(several[task]) for task in answered}
    disputed = {t: label for t, (label, sure) in aggregated.items() if label != gold[t] and sure >= DISPUTED}
    certain = {task: {name: float(name == label) for name in labels} for task, label in gold.items()}
    truth = {task: chances for task, chances in (probable | certain).items() if task not in disputed}
    crowd = _crowd(rows, truth, answers, unknown_crowd(labels, tiers))
    return replace(crowd, disputed=disputed, confusion_CC=confusion_CC, probable=probable)


def _crowd(
    rows: Sequence[tuple[int, str, str]], truth: Mapping[int, Mapping[str, float]], answers: Answers, unknown: Crowd
) -> Crowd:
    """The people by their (task, person, label), where it is known how probable each label of each task is."""
    place = {label: i for i, label in enumerate(unknown.labels)}
    right: dict[str, float] = {}
    counted: dict[str, float] = {}
    mistakes_CC = unknown.mistakes_CC.copy()  # the even spread is worth one mistake of each label
    for task, person, label in rows:
        if chances := truth.get(task):
            right[person] = right.get(person, 0.0) + chances[label]
            counted[person] = counted.get(person, 0.0) + 1
            for other, chance in chances.items():
                if other != label:
                    mistakes_CC[place[other], place[label]] += chance
    tiers_of: dict[str, set[Tier]] = {}
    for answer in (a for given in answers.values() for a in given):
        tiers_of.setdefault(answer.person, set()).add(answer.tier)
    accuracy = {
        person: (PRIOR * max(unknown.expected[tier] for tier in tiers_of[person]) + right[person]) / (PRIOR + count)
        for person, count in counted.items()
    }
    mistakes_CC /= np.maximum(mistakes_CC.sum(axis=1, keepdims=True), 1e-12)
    return Crowd(unknown.labels, unknown.expected, mistakes_CC, accuracy, counted)


def _fitted(
    rows: Sequence[tuple[int, str, str]], labels: Sequence[str]
) -> tuple[dict[str, Floats], dict[int, dict[str, float]]]:
    """Dawid and Skene's model of (task, person, label): each person's confusion, and each task's probable labels."""
    if not rows:
        return {}, {}
    frame = pd.DataFrame(rows, columns=["task", "worker", "label"])
    model = DawidSkene(n_iter=MOST_STEPS, tol=TOLERANCE).fit(frame)
    errors, probable = model.errors_, model.probas_
    assert errors is not None and probable is not None
    people = {
        person: errors.loc[person].reindex(index=labels, columns=labels, fill_value=0.0).to_numpy().T
        for person in errors.index.get_level_values("worker").unique()
    }
    return people, probable.reindex(columns=list(labels), fill_value=0.0).to_dict("index")
