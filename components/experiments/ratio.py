"""Sample ratio: did users fall into the variants by the weights that they were assigned by? Pure; holds at every look.

Sequential multinomial test (Lindon and Malek 2022). Before each user, those who came earlier predict with which
probability they get each variant: the given one, times how much more often than given the variant came so far
(`PSEUDO_USERS` count as if it came as given). The product over users of predicted by given probability, at the variant
that they got, is a likelihood ratio whose factors have mean 1 where the weights are right, whatever they were at each
user: by Ville's inequality it ever reaches 1/p with probability p at most. Where weights never change it is the Bayes
factor of a Dirichlet-multinomial mixture. The package `ville` has this for two variants of constant weights only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PSEUDO_USERS = 100.0  # best where shares are some five points from what they should be


def mismatch(variant: NDArray[np.int64], given_nK: NDArray[np.float64]) -> float:
    """p-value that holds at every look, of users in order of assignment: the `variant` (n,) that each got, 0 to K - 1,
    and the probabilities (n, K) with which they should have got each, which sum to 1. 1 before the first user."""
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
