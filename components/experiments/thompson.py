"""Thompson sampling as a policy of allocation: likes per variant in, probabilities of assignment out. Pure.

Thompson (1933), for yes-or-no rewards with uniform Beta priors: a variant is given with the probability that it is the
best. That probability is the propensity to log, so it is integrated, not sampled. A floor keeps every propensity away
from 0, without which no replay (`replay`) could value a variant that fell out of favour. The weights it returns follow
the outcomes, so `analyse`, whose sequences assume weights that do not, compares nothing of what it allocates.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Tally = tuple[float, float]  # a variant's rewards and what is missing to one a user, so far: both may be fractions
NODES = 256  # of the quadrature; its error is below 0.002 for posteriors of very different width


def weights(tallies: Mapping[str, Tally], floor: float) -> dict[str, float]:
    """Each variant's propensity, at least `floor`, summing to 1: the floor for all, and the rest by who is best."""
    rest = 1 - floor * len(tallies)
    return {name: float(floor + rest * p) for name, p in zip(tallies, best(tallies), strict=True)}


def best(tallies: Mapping[str, Tally]) -> NDArray[np.float64]:
    """Probability (K,) that each variant has the highest rate: its mean over own quantiles of all others' CDFs."""
    posteriors = [stats.beta(1 + liked, 1 + not_liked) for liked, not_liked in tallies.values()]
    nodes, mass = np.polynomial.legendre.leggauss(NODES)
    chances = np.empty(len(posteriors))
    for k, mine in enumerate(posteriors):
        rates = mine.ppf((nodes + 1) / 2)  # (NODES,)
        others = [other.cdf(rates) for j, other in enumerate(posteriors) if j != k]
        chances[k] = np.sum(mass / 2 * np.prod(others, axis=0))
    return chances / chances.sum()
