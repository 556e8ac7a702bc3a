"""When to stop labelling: what the labels that are left would still add, read off the learning curve so far.

A power law, accuracy = limit - slope * labels^-decay, as learning curves follow (Hestness et al. 2017,
arXiv:1712.00409), fitted to held-out accuracy; its interval is a parametric bootstrap. A power law holds for the later
part of a curve only, and least for chosen labels, which teach most at first: the recent part is what is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from components.errors import AtelierError

Floats = NDArray[np.float64]

POINTS = 5  # a curve of three parameters says nothing with fewer
RECENT = 4  # the part fitted starts at this fraction of the labels so far
BOOTSTRAPS, LEVEL = 100, 0.9
BOUNDS = ([0.0, 0.0, 0.1], [1.0, 50.0, 2.0])  # limit, slope, decay
POINT = 0.01


class CurveError(AtelierError):
    """A learning curve cannot be judged; the message says why."""


@dataclass(frozen=True)
class Outlook:
    """What labelling everything that is left is expected to add to accuracy: `gain`, between `low` and `high`.

    `accuracy` is today's, smoothed by the curve. `next_point` is how many more labels the next 0.01 of accuracy takes,
    None where all that are left do not bring it.
    """

    accuracy: float
    left: int
    gain: float
    low: float
    high: float
    next_point: int | None

    def enough(self, worth: float) -> bool:
        """True where even the upper end of the gain is not worth the labels; `worth` in accuracy (0.01: one point)."""
        return self.high < worth

    def __str__(self) -> str:
        gain = f"the other {self.left:,} labels are expected to add {100 * self.gain:.1f} points of accuracy"
        cost = (
            "which is less than one point"
            if self.next_point is None
            else f"about {self.next_point:,} more labels for the next point"
        )
        return f"{gain} ({LEVEL:.0%} interval {100 * self.low:.1f} to {100 * self.high:.1f}); {cost}"


def outlook(labels: Floats, accuracies: Floats, held_out: int, left: int, rng: np.random.Generator) -> Outlook:
    """The expected remaining gain from a curve: `accuracies` on `held_out` rows after so many `labels`, both K long.

    `left` rows have no label yet. Raises `CurveError` for fewer than five points, or values that are no accuracy.
    """
    if len(labels) != len(accuracies) or len(labels) < POINTS:
        raise CurveError(
            f"{len(labels)} label counts and {len(accuracies)} accuracies; expected {POINTS} or more of each"
        )
    if not np.all((accuracies >= 0) & (accuracies <= 1)) or np.any(labels < 1) or held_out < 1:
        raise CurveError("expected accuracies from 0 to 1, label counts and held-out rows of 1 or more")
    recent = (labels >= labels[-1] / RECENT) | (np.arange(len(labels)) >= len(labels) - POINTS)
    labels, accuracies = labels[recent], accuracies[recent]
    best = float(accuracies.max())
    start = (min(best + 0.02, 0.999), max(best - float(accuracies[0]), 0.01) * math.sqrt(labels[0]), 0.5)
    fit = _fit(labels, accuracies, held_out, start)
    now, end = float(labels[-1]), float(labels[-1]) + left
    draws = rng.binomial(held_out, np.clip(_law(labels, *fit), 0, 1), (BOOTSTRAPS, len(labels))) / held_out
    gains = [_gain(_fit(labels, draw, held_out, fit), now, end) for draw in draws]
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    gain = _gain(fit, now, end)
    needed = _labels_for(fit, now, POINT) if gain >= POINT else None
    return Outlook(float(_law(labels, *fit)[-1]), left, gain, float(low), float(high), needed)


def _law(labels: Floats, limit: float, slope: float, decay: float) -> Floats:
    return limit - slope * labels**-decay


def _slopes(labels: Floats, _: float, slope: float, decay: float) -> Floats:
    """The law's derivatives by limit, slope and decay, K x 3."""
    power = labels**-decay
    return np.stack([np.ones_like(labels), -power, slope * power * np.log(labels)], axis=1)


def _fit(labels: Floats, accuracies: Floats, held_out: int, start: Sequence[float] | Floats) -> Floats:
    # One row more and one less right, so that an accuracy of 0 or 1 keeps a deviation.
    smoothed = (accuracies * held_out + 1) / (held_out + 2)
    deviations = np.sqrt(smoothed * (1 - smoothed) / held_out)
    return np.asarray(
        curve_fit(_law, labels, accuracies, start, deviations, bounds=BOUNDS, jac=_slopes, max_nfev=500)[0]
    )


def _gain(fit: Floats, now: float, end: float) -> float:
    _, slope, decay = fit
    return float(slope * (now**-decay - end**-decay))


def _labels_for(fit: Floats, now: float, gain: float) -> int:
    _, slope, decay = fit
    return math.ceil((now**-decay - gain / slope) ** (-1 / decay) - now)
