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

from monitoring.descriptors import words

# Words that carry no meaning of their own in a phrase such as "can you make an apple for me?".
PLAIN = frozenset(
    words("a an and the of for me my i is it to can you make need please would like show draw something sticker")
)
USUAL_WORDS = 10  # a prompt with this many different words says enough


@dataclass(frozen=True)
class Taste:
    """One simulated user: their general mood (added to the log-odds of a like) and how often they react at all."""

    mood: float
    reacts: float


def taste(rng: np.random.Generator) -> Taste:
    return Taste(mood=float(rng.normal(0, 0.7)), reacts=float(rng.uniform(0.6, 1.0)))


def like_text(person: Taste, phrase: str, answer: str) -> float:
    """Probability of a like: higher where the answer names what was asked, says enough and does not repeat itself."""
    asked, written = set(words(phrase)) - PLAIN, words(answer)
    if not written:
        return 0.0
    named = len(asked & set(written)) / max(len(asked), 1)
    enough = min(len(set(written)) / USUAL_WORDS, 1.0)
    repeated = 1 - len(set(written)) / len(written)
    return _logistic(person.mood - 1.6 + 2.4 * named + 1.2 * enough - 3.0 * repeated)


def like_picture(person: Taste, picture: NDArray[np.uint8]) -> float:
    """Probability of a like: higher for a drawing with contrast on a quiet ground than for noise or an empty sheet."""
    pixels = picture.astype(np.float64).mean(axis=2)
    contrast = min(pixels.std() / 64, 1.0)
    noise = float(np.abs(np.diff(pixels, axis=0)).mean() + np.abs(np.diff(pixels, axis=1)).mean()) / 64
    return _logistic(person.mood - 1.0 + 2.5 * contrast - 1.5 * noise)


def _logistic(log_odds: Any) -> float:
    return 1 / (1 + math.exp(-float(log_odds)))
