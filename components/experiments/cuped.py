"""CUPED: a user's outcome before the experiment predicts the one inside it, and what it predicts is no noise. Pure.

Deng, Xu, Kohavi and Walker (2013) subtract theta (before - its mean), with theta by regression over all users. Here
theta and both means come from earlier users, as in Waudby-Smith et al. (2024): a prediction that knows neither a user's
own outcome nor their variant leaves the difference unbiased at every look. It is clipped to [0, 1] as outcomes are, so
what remains is bounded as without it, and the exact sequence for bounded numbers stays valid: no asymptotic one is
needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RIDGE = 1.0  # pseudo-users' worth of "before says nothing", so that the first few users make no wild theta

Floats = NDArray[np.float64]


def predictions(outcomes: Floats, before: Floats) -> Floats:
    """Each user's predicted outcome (n,) in [0, 1], from `before` (n,; NaN without a past) and earlier users only.

    Without a past, or where `before` never varies, it is the mean outcome so far; 0.5 for the first user.
    """
    known = np.isfinite(before)
    x = np.where(known, before, 0.0)
    n, all_n = _earlier(known.astype(float)), np.arange(outcomes.size)
    mean_x, mean_y = (_earlier(v) / np.maximum(n, 1) for v in (x, np.where(known, outcomes, 0.0)))
    sxx = _earlier(x * x) - n * mean_x**2
    sxy = _earlier(np.where(known, x * outcomes, 0.0)) - n * mean_x * mean_y
    theta = sxy / (np.maximum(sxx, 0.0) + RIDGE)
    mean = np.where(all_n > 0, _earlier(outcomes) / np.maximum(all_n, 1), 0.5)
    return np.clip(mean + np.where(known & (n > 0), theta * (x - mean_x), 0.0), 0.0, 1.0)


def _earlier(values: Floats) -> Floats:
    """Sum of the values before each one."""
    return np.concatenate(([0.0], np.cumsum(values)[:-1]))
