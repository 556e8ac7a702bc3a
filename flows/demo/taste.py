"""What the SIMULATED audience likes: a seeded user's reaction to the content of a response, and to nothing else. Pure.

No function here takes a variant, a deployment or a latency, so a difference between variants can only come from what
they wrote. The weights are made up: they stand for no measured person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.events.schema import Kind
from monitoring.columns import words

# Words that carry no meaning of their own in a phrase such as "can you make an apple for me?".
PLAIN = frozenset(
    words("a an and the of for me my i is it to can you make need please would like show draw something sticker")
)
PLANS = ("free", "paid")
USUAL_WORDS = 10  # a prompt with this many different words says enough


@dataclass(frozen=True)
class Taste:
    """One simulated user: their general mood (added to the log-odds of a like), how often they react, their plan."""

    mood: float
    reacts: float
    plan: str = PLANS[0]


def taste(rng: np.random.Generator) -> Taste:
    mood, reacts = float(rng.normal(0, 0.7)), float(rng.uniform(0.6, 1.0))
    # From a number that is drawn already: an independent draw would change every later choice of a seed.
    return Taste(mood, reacts, PLANS[int(1e6 * reacts) % len(PLANS)])


def like_text(person: Taste, phrase: str, answer: str) -> float:
    """Probability of a like: higher where the answer names what was asked, says enough and does not repeat itself."""
    wanted, written = set(words(phrase)) - PLAIN, words(answer)
    if not written:
        return 0.0
    named = len(wanted & set(written)) / max(len(wanted), 1)
    enough = min(len(set(written)) / USUAL_WORDS, 1.0)
    repeated = 1 - len(set(written)) / len(written)
    return _logistic(person.mood - 1.6 + 2.4 * named + 1.2 * enough - 3.0 * repeated)


def like_picture(person: Taste, picture: NDArray[np.uint8]) -> float:
    """Probability of a like: higher for a drawing with contrast on a quiet ground than for noise or an empty sheet."""
    pixels = picture.astype(np.float64).mean(axis=2)
    contrast = min(pixels.std() / 64, 1.0)
    noise = float(np.abs(np.diff(pixels, axis=0)).mean() + np.abs(np.diff(pixels, axis=1)).mean()) / 64
    return _logistic(person.mood - 1.0 + 2.5 * contrast - 1.5 * noise)


def behave(rng: np.random.Generator, liking: float) -> dict[Kind, float]:
    """What else the user does with an answer that they like with probability `liking`: seconds, and what they press."""
    seconds = float(np.clip(rng.lognormal(1.5 + 2 * liking, 0.6), 0.5, 600))
    chances: dict[Kind, float] = {"click": 0.2 + 0.5 * liking, "save": 0.4 * liking, "regenerate": 0.5 * (1 - liking)}
    pressed: dict[Kind, float] = {kind: 1.0 for kind, chance in chances.items() if rng.random() < chance}
    return {"dwell": seconds, **pressed}


def _logistic(log_odds: Any) -> float:
    return 1 / (1 + math.exp(-float(log_odds)))
