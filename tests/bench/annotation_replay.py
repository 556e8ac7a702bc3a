"""Labelling played again on data whose labels are known: a strategy asks, the labels answer, a model is refitted.

The model is a logistic regression on the embeddings, fitted anew after each batch. All strategies of a seed share the
split and the generator's seed, so that their curves are pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, GroupShuffleSplit

from components.annotation.acquisition import Floats, Rows
from components.annotation.batch import model, probabilities
from tests.bench.annotation_strategies import select

TEST_SHARE, BUDGET_SHARE = 0.3, 0.8  # of all rows, and of the rows that may be labelled
TARGET = 0.95  # of the accuracy that all labels give
BATCH, GROWTH = 10, 5  # a batch is 10 rows, or a fifth of the labels so far where that is more
MEMBERS = 5  # bootstrap fits for the strategy that needs several
STRENGTHS = (0.1, 1.0, 10.0)  # of inverse regularisation, chosen once for a data set and all its strategies


@dataclass(frozen=True)
class Dataset:
    """Rows to label and their labels; rows of one group (views of one thing) stay on one side of every split."""

    name: str
    x_ND: Floats
    y_N: NDArray[np.intp]
    groups_N: NDArray[np.generic]


@dataclass(frozen=True)
class Curve:
    """Accuracy on the `held_out` rows after each number of labels; `full` is that of all `pool` labels."""

    strategy: str
    seed: int
    labels: tuple[int, ...]
    accuracies: tuple[float, ...]
    full: float
    pool: int
    held_out: int

    @property
    def needed(self) -> float:
        """Labels until the target is reached and still held one batch later; infinite where the budget ends before.

        A single look above the target may be luck, and a strategy that looks often would have more of it.
        """
        above = np.array(self.accuracies) >= TARGET * self.full
        held = np.flatnonzero(above[:-1] & above[1:])
        return float(self.labels[held[0]]) if held.size else float("inf")


def strength(data: Dataset) -> float:
    """The inverse regularisation that does best on all rows, by three-fold cross-validation."""
    search = GridSearchCV(model(1.0), {"C": STRENGTHS}, cv=3).fit(data.x_ND, data.y_N)
    return float(search.best_params_["C"])


def replay(data: Dataset, strategy: str, seed: int, strength: float) -> Curve:
    """One curve: label by `strategy` until the budget is spent."""
    pool, test = next(
        GroupShuffleSplit(1, test_size=TEST_SHARE, random_state=seed).split(data.x_ND, groups=data.groups_N)
    )
    x_ND, y_N, classes = data.x_ND[pool], data.y_N[pool], int(data.y_N.max()) + 1
    rng, labelled_N = np.random.default_rng(seed), np.zeros(len(pool), bool)
    probabilities_MNC = np.full((1, len(pool), classes), 1 / classes)

    def accuracy(rows: Rows) -> float:
        predicted = probabilities(x_ND[rows], y_N[rows], data.x_ND[test], classes, strength).argmax(1)
        return float(np.mean(predicted == data.y_N[test]))

    labels, accuracies = [], []
    while (done := int(labelled_N.sum())) < BUDGET_SHARE * len(pool):
        count = max(BATCH, done // GROWTH)
        labelled_N[select(strategy, probabilities_MNC, x_ND, labelled_N, count, rng)] = True
        rows = np.flatnonzero(labelled_N)
        draws = [rng.choice(rows, len(rows)) for _ in range(MEMBERS)] if strategy == "bald" else [rows]
        probabilities_MNC = np.stack([probabilities(x_ND[d], y_N[d], x_ND, classes, strength) for d in draws])
        labels.append(len(rows))
        accuracies.append(accuracy(rows))
    full = accuracy(np.arange(len(pool)))
    return Curve(strategy, seed, tuple(labels), tuple(accuracies), full, len(pool), len(test))
