"""How far people agree, what they mix up, whether somebody is getting worse, and which labels look wrong.

Pure. The statistics are those of krippendorff, statsmodels, scikit-learn, SciPy and cleanlab. Agreement is that of
answers that every task gets (`quality.first_answers`): whether a task gets more depends on how the first ones agreed,
and tasks chosen so agree more, or less, than all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import krippendorff
import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa
from statsmodels.stats.proportion import proportion_confint

Given = Mapping[int, Sequence[tuple[str, str]]]  # by task: (person, label), in the order of answers
Floats = NDArray[np.float64]

RESAMPLES = 500
PAIR = 10  # tasks in common from which a pair of people is compared
WINDOW = 30  # answers of a person that are one point of their curve, and the newest that drift is looked for in
DRIFT = 0.01  # chance that drift is reported of anybody without a reason


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two people's agreement beyond chance (Cohen) on their common tasks, and what they most often mix up."""

    people: tuple[str, str]
    tasks: int
    kappa: float
    mixed_up: str


@dataclass(frozen=True)
class Curve:
    """A person's share of right answers over time, in windows, and the chance of its newest fall without a reason."""

    right: tuple[float, ...]
    times: tuple[float, ...]
    p_value: float
    drifts: bool


def alpha(given: Given, labels: Sequence[str], seed: int = 7) -> Estimate | None:
    """Krippendorff's alpha with a 95 % interval (bootstrap over tasks), or None where nobody answered the same task."""
    counts_TC = _counts({task: pairs for task, pairs in given.items() if len(pairs) > 1}, labels)
    if not len(counts_TC) or np.count_nonzero(counts_TC.sum(axis=0)) < 2:
        return None

    def of(rows: NDArray[np.int64]) -> float:
        if np.count_nonzero(counts_TC[rows].sum(axis=0)) < 2:
            return 1.0  # a sample of one label only, on which all agree
        return float(krippendorff.alpha(value_counts=counts_TC[rows], level_of_measurement="nominal"))

    rows = np.arange(len(counts_TC))
    drawn = stats.bootstrap(
        (rows,), of, n_resamples=RESAMPLES, vectorized=False, method="percentile", rng=np.random.default_rng(seed)
    )
    return Estimate(of(rows), float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))


def fleiss(given: Given, labels: Sequence[str], size: int) -> tuple[float, int] | None:
    """Fleiss' kappa of the tasks that have `size` answers, and their number; None where it has no value."""
    ratings = [[labels.index(label) for _, label in pairs] for pairs in given.values() if len(pairs) == size]
    if size < 2 or not ratings:
        return None
    table, _ = aggregate_raters(np.array(ratings), n_cat=len(labels))
    with np.errstate(invalid="ignore"):
        kappa = float(fleiss_kappa(table))
    return (kappa, len(ratings)) if np.isfinite(kappa) else None


def pairs(given: Given) -> list[Pair]:
    """Every two people with enough tasks in common, those that agree least first."""
    common: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for answers in given.values():
        for (first, label), (second, other_label) in combinations(sorted(answers), 2):
            common.setdefault((first, second), []).append((label, other_label))
    compared = [_pair(people, labels) for people, labels in common.items() if len(labels) >= PAIR]
    return sorted(compared, key=lambda pair: pair.kappa)


def accuracy(right: int, count: int) -> Estimate:
    """A share of right answers with its 95 % interval (Wilson)."""
    low, high = proportion_confint(right, count, method="wilson")
    return Estimate(right / count, float(low), float(high))


def curve(right: Sequence[bool], times: Sequence[float], people: int) -> Curve | None:
    """A person's answers in order of time, or None where they are too few; `people`: how many are looked at.

    Drift is a fall: the newest window is less often right than everything before it (Fisher's exact test, one-sided).
    """
    if len(right) < 2 * WINDOW:
        return None
    starts = range(len(right) % WINDOW, len(right), WINDOW)
    new, old = np.array(right[-WINDOW:]), np.array(right[:-WINDOW])
    table = [[new.sum(), (~new).sum()], [old.sum(), (~old).sum()]]
    p_value = float(stats.fisher_exact(table, alternative="less").pvalue)
    shares = tuple(float(np.mean(right[start : start + WINDOW])) for start in starts)
    return Curve(shares, tuple(times[start] for start in starts), p_value, p_value < DRIFT / people)


def suspects(labels: Sequence[str], probable_TC: Floats, names: Sequence[str]) -> list[tuple[int, str, float]]:
    """Positions whose label looks wrong, worst first, with the likelier label and the label's quality (0 to 1).

    Confident learning; `probable_TC`: what a model that never saw an example says of it, columns in order of `names`.
    """
    given = np.array([names.index(label) for label in labels])
    wrong = find_label_issues(given, probable_TC, return_indices_ranked_by="self_confidence", n_jobs=1)
    quality = get_label_quality_scores(given, probable_TC)
    return [(int(i), names[int(probable_TC[i].argmax())], float(quality[i])) for i in wrong]


def _counts(given: Given, labels: Sequence[str]) -> NDArray[np.int64]:
    """How often each task (row) was given each label."""
    counts = [Counter(label for _, label in pairs) for pairs in given.values()]
    return np.array([[count[label] for label in labels] for count in counts], dtype=np.int64)


def _pair(people: tuple[str, str], labels: Sequence[tuple[str, str]]) -> Pair:
    first, second = zip(*labels, strict=True)
    kappa = 1.0 if len({*first, *second}) == 1 else float(cohen_kappa_score(first, second))
    mixed = Counter(tuple(sorted(both)) for both in labels if both[0] != both[1]).most_common(1)
    return Pair(people, len(labels), kappa, " and ".join(mixed[0][0]) if mixed else "")
