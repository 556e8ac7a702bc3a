"""Thompson sampling as a policy of allocation: likes per variant in, probabilities of assignment out. Pure.

Thompson (1933), for yes-or-no rewards with uniform Beta priors: a variant is given with the probability that it is the
best. That probability is the propensity to log, so it is integrated, not sampled. A floor keeps every propensity away
from 0, without which no replay (`replay`) could value a variant that fell out of favour. The weights it returns follow
the outcomes, so `analyse`, whose sequences assume weights that do not, compares nothing of what it allocates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from components.experiments.exposures import ExperimentError

NODES = 256  # of the quadrature; its error is below 0.002 for posteriors of very different width


@dataclass(frozen=True)
class Tally:
    """A variant's rewards so far; shares of a like may be added to both."""

    liked: float
    not_liked: float


def weights(tallies: Mapping[str, Tally], floor: float) -> dict[str, float]:
    """Each variant's propensity, at least `floor`, summing to 1: the floor for all, and the rest by who is best.

    Raises `ExperimentError` for a floor that does not fit in or a tally that is no count.
    """
    if not 0 < floor * len(tallies) <= 1:
        raise ExperimentError(f"floor {floor}: {len(tallies)} variants at least that likely do not fit into 1")
    rest = 1 - floor * len(tallies)
    return {name: float(floor + rest * p) for name, p in zip(tallies, best(tallies), strict=True)}


def best(tallies: Mapping[str, Tally]) -> NDArray[np.float64]:
    """Probability (K,) that each variant has the highest rate: its mean over own quantiles of all others' CDFs."""
    for name, tally in tallies.items():
        if not (0 <= tally.liked < float("inf") and 0 <= tally.not_liked < float("inf")):
            raise ExperimentError(f"variant {name}: {tally} holds no counts")
    posteriors = [stats.beta(1 + tally.liked, 1 + tally.not_liked) for tally in tallies.values()]
    nodes, mass = np.polynomial.legendre.leggauss(NODES)
    chances = np.empty(len(posteriors))
    for k, mine in enumerate(posteriors):
        rates = mine.ppf((nodes + 1) / 2)  # (NODES,)
        others = [other.cdf(rates) for j, other in enumerate(posteriors) if j != k]
        chances[k] = np.sum(mass / 2 * np.prod(others, axis=0))
    return chances / chances.sum()
