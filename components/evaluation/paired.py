"""The difference of two models on the same cases, with the bound of its one-sided 95 % interval."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

RESAMPLES = 2000
Values = NDArray[np.float64]


def mean_difference(
    candidate_N: Values, champion_N: Values, side: Literal["lower", "upper"], seed: int
) -> tuple[float, float]:
    """Mean of candidate - champion over the pairs, and its one-sided 95 % bound by the percentile bootstrap."""
    resampled = bootstrap(
        (candidate_N, champion_N),
        lambda candidate, champion, axis: (candidate - champion).mean(axis),
        paired=True,
        n_resamples=RESAMPLES,
        alternative="greater" if side == "lower" else "less",
        method="percentile",  # unlike BCa it has an answer where the two models never differ
        rng=seed,
    )
    low, high = resampled.confidence_interval
    return float((candidate_N - champion_N).mean()), float(low if side == "lower" else high)
