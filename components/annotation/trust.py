"""How far to trust each person's answers, and how sure several answers make one of a label.

What is true is estimated from all answers by Dawid and Skene's model (crowd-kit). From that come one accuracy for each
person, whatever the label, and which wrong label is taken for which, learned from everybody together: no single person
has given enough answers for a table of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from crowdkit.aggregation import DawidSkene
from numpy.typing import NDArray
from scipy import stats

from components.annotation.tiers import Answer, Tier
from components.config import Tiers

PRIOR = 10.0  # answers that the expected accuracy of somebody new counts for: a person needs about as many of their own
DISPUTED = 0.99  # a gold label is doubted where three answers or more make another label as likely as this
ITERATIONS = 5

Floats = NDArray[np.float64]
Answers = Mapping[int, Sequence[Answer]]  # by task


@dataclass(frozen=True)
class Crowd:
    """What is known of the people; `mistakes_CC[truth, answer]` is the chance of a wrong answer, given it is wrong."""

    labels: tuple[str, ...]
    expected: Mapping[Tier, float]  # accuracy of somebody of whom nothing is known
    mistakes_CC: Floats
    accuracy: Mapping[str, float] = field(default_factory=dict)
    counted: Mapping[str, float] = field(default_factory=dict)  # answers by person that the accuracy rests on
    disputed: Mapping[int, str] = field(default_factory=dict)  # gold tasks, and the label that the answers say instead

    @cached_property
    def _place(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    def posterior(self, answers: Sequence[Answer]) -> Floats:
        """Probability of each label (C), every label as likely as another before the first answer."""
        log_C = np.zeros(len(self.labels))
        for answer in answers:
            if answer.label in self._place:
                place = self._place[answer.label]
                right = self.accuracy.get(answer.person, self.expected[answer.tier])
                likelihood_C = (1 - right) * self.mistakes_CC[:, place]
                likelihood_C[place] = right
                log_C += np.log(likelihood_C)
        likelihood_C = np.exp(log_C - log_C.max())
        return likelihood_C / likelihood_C.sum()

    def believe(self, answers: Sequence[Answer]) -> tuple[str, float]:
        """The likeliest label, and how likely it is."""
        posterior_C = self.posterior(answers)
        best = int(posterior_C.argmax())
        return self.labels[best], float(posterior_C[best])

    def unfit(self, accuracy: float) -> set[str]:
        """The people whose accuracy is below that with 97.5 % certainty (Beta posterior)."""
        total = {person: PRIOR + count for person, count in self.counted.items()}
        right = {person: self.accuracy[person] * count for person, count in total.items()}
        upper = stats.beta.ppf(0.975, [*right.values()], [total[p] - right[p] for p in right])
        return {person for person, bound in zip(right, upper, strict=True) if bound < accuracy}


def strangers(labels: Sequence[str], tiers: Tiers) -> Crowd:
    """People of whom nothing is known yet."""
    count = len(labels)
    evenly_CC = (1 - np.eye(count)) / max(count - 1, 1)
    return Crowd(tuple(labels), {tier: tiers.expected[tier] for tier in Tier}, evenly_CC)


def get_to_know(answers: Answers, gold: Mapping[int, str], labels: Sequence[str], tiers: Tiers) -> Crowd:
    """The people behind the answers; `gold`: tasks whose label is known.

    A gold label that three answers or more contradict almost surely counts for nobody and against nobody until a lead
    has looked at it. A task of one answer tells nothing of anybody, unless it is gold.
    """
    crowd, place = strangers(labels, tiers), {label: i for i, label in enumerate(labels)}
    several = {task: given for task, given in answers.items() if len(given) > 1 or task in gold}
    rows = [(task, a.person, a.label) for task, given in several.items() for a in given if a.label in place]
    if not rows:
        return crowd
    truth, disputed = _truth(rows, gold, labels)
    right: dict[str, float] = {}
    counted: dict[str, float] = {}
    mistakes_CC = crowd.mistakes_CC.copy()  # the even spread is worth one mistake of each label
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
        person: (PRIOR * max(crowd.expected[tier] for tier in tiers_of[person]) + right[person]) / (PRIOR + count)
        for person, count in counted.items()
    }
    mistakes_CC /= np.maximum(mistakes_CC.sum(axis=1, keepdims=True), 1e-12)
    return Crowd(crowd.labels, crowd.expected, mistakes_CC, accuracy, counted, disputed)


def _truth(
    rows: Sequence[tuple[int, str, str]], gold: Mapping[int, str], labels: Sequence[str]
) -> tuple[dict[int, dict[str, float]], dict[int, str]]:
    """How probable each label of each task is, gold taken for certain; and the disputed gold, left out of that."""
    frame = pd.DataFrame(rows, columns=["task", "worker", "label"])
    fitted = DawidSkene(n_iter=ITERATIONS).fit_predict_proba(frame).reindex(columns=list(labels), fill_value=0.0)
    truth: dict[int, dict[str, float]] = fitted.to_dict("index")
    asked, disputed = Counter(task for task, *_ in rows), {}
    for task in gold.keys() & truth.keys():
        likeliest = max(labels, key=lambda label: truth[task][label])
        if likeliest != gold[task] and asked[task] > 2 and truth[task][likeliest] >= DISPUTED:
            disputed[task] = likeliest
            del truth[task]
        else:
            truth[task] = {label: float(label == gold[task]) for label in labels}
    return truth, disputed
