"""How sure a figure is that was measured on a sample of completions: whole completions are drawn again, not tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from components.evaluation.replay import root_mean_square

RESAMPLES = 2000
LEVEL = 0.95
Values = NDArray[np.float64]
Statistic = Callable[[Values, Values], Values]  # of the last axis


def by_sample(values_N: Tensor, counts: Sequence[int]) -> Values:
    """Sums over the tokens (and what else an entry holds) of each completion S, which has `counts` of them."""
    return np.array([part.double().sum().item() for part in values_N.split(list(counts))])


def share(part_S: Values, whole_S: Values) -> Values:
    return np.asarray(part_S.sum(-1) / whole_S.sum(-1))


def perplexity(losses_S: Values, counts_S: Values) -> Values:
    """Of losses in nats; of the differences of two models' losses, the ratio of their perplexities."""
    return np.exp(share(losses_S, counts_S))


def length_ratio(squares_S: Values, others_S: Values) -> Values:
    """Of two root mean squares over as many entries, from sums of squares."""
    return np.sqrt(share(squares_S, others_S))


def beside_rounding(errors_N: Tensor, rounding_N: Tensor, counts: Sequence[int]) -> dict[str, Any]:
    """Root mean squares of an error and of what rounding costs on the same completions, and their ratio's interval."""
    squares_S, others_S = (by_sample(values_N.square(), counts) for values_N in (errors_N, rounding_N))
    lengths = {"error": root_mean_square(errors_N), "rounding": root_mean_square(rounding_N)}
    return lengths | {"interval": interval(length_ratio, squares_S, others_S)}


def interval(statistic: Statistic, left_S: Values, right_S: Values) -> tuple[float, float]:
    """The statistic's 95 % interval, by the percentile bootstrap over completions."""
    drawn_RS = np.random.default_rng(0).integers(len(left_S), size=(RESAMPLES, len(left_S)))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(statistic(left_S[drawn_RS], right_S[drawn_RS]), [tail, 1 - tail])
    return float(low), float(high)


def most_unseen(count: int) -> float:
    """The share that a thing may have that `count` of `count` did not show: the 95 % bound of Clopper and Pearson."""
    return float(1 - (1 - LEVEL) ** (1 / count))
