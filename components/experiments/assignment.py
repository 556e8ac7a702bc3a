"""Sticky assignment: which variant of an experiment a user sees, from the user's key alone.

Pure. The same user, salt and variants give the same variant in every process and at every time; a new salt shuffles.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from components.config import Experiment


@dataclass(frozen=True)
class Assignment:
    """A user's variant and the probability with which a random user gets it."""

    experiment: str
    variant: str
    propensity: float


def uniform(user_key: str, salt: str) -> float:
    """A number in [0, 1) that is uniform over users: the first 53 bits of SHA-256 of salt and key."""
    digest = hashlib.sha256(f"{len(salt)}:{salt}{user_key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def assign(experiment: Experiment, user_key: str) -> Assignment:
    """The variant whose cumulative bucket of weights holds the user; a variant of weight 0 is never assigned."""
    point = uniform(user_key, experiment.salt)
    cumulative = 0.0
    # Sorted, so that reordering variants in a file moves nobody.
    weighted = [(name, v.weight) for name, v in sorted(experiment.variants.items()) if v.weight > 0]
    for name, weight in weighted:
        cumulative += weight
        if point < cumulative:
            return Assignment(experiment.name, name, weight)
    # Weights sum to 1 only within floating-point error: the remainder belongs to the last.
    name, weight = weighted[-1]
    return Assignment(experiment.name, name, weight)
