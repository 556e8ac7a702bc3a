"""Sticky assignment: which experiment of a line a user is in, and which variant they see, from their key alone.

Pure. A line and a segment of its users make a layer: a hash of the key with the layer's name gives a point, on which
one experiment at most has its place; a hash with the experiment's own salt does the same for its variants, so that
neither tells of the other. A segment's layer comes before the line's own.
The same user and places give the same variant in every process; a new salt shuffles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from components.config import Experiment, Variant
from components.experiments.intervals import UNITS, Intervals, allocate, in_units, owner, size


@dataclass(frozen=True)
class Assignment:
    """A user's variant and the probability with which a random user of the experiment gets it."""

    experiment: str
    variant: str
    propensity: float


@dataclass(frozen=True)
class Placed:
    """An experiment with its weights in whole units, its users' places on its line, and its variants' among them."""

    experiment: Experiment
    users: Intervals
    variants: Mapping[str, Intervals]


def place(experiment: Experiment, users: Intervals, before: Mapping[str, Intervals] | None = None) -> Placed:
    """Give the variants their places, each keeping what it may of those `before`."""
    variants = allocate(in_units(experiment.weights), before or {})
    weights = {name: size(found) / UNITS for name, found in variants.items()}
    return Placed(experiment.weighted(weights), users, variants)


def uniform(user_key: str, salt: str) -> float:
    """A number in [0, 1) that is uniform over users: the first 53 bits of SHA-256 of salt and key."""
    digest = hashlib.sha256(f"{len(salt)}:{salt}{user_key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def inside(
    running: Sequence[Placed],
    line: str,
    user_key: str,
    segments: Mapping[str, str],
    chosen: AbstractSet[str] = frozenset(),
) -> Placed | None:
    """The one experiment of a line that a request of a user of these segments is in; `chosen`: what it asks for."""
    layers: dict[str, dict[str, Placed]] = {}
    for placed in running:
        if placed.experiment.covers(line, segments, chosen):
            layers.setdefault(placed.experiment.layer, {})[placed.experiment.name] = placed
    for layer in sorted(layers, key=lambda layer: (layer == line, layer)):
        places = {name: placed.users for name, placed in layers[layer].items()}
        if name := owner(places, uniform(user_key, f"layer {layer}")):
            return layers[layer][name]
    return None


def assign(placed: Placed, user_key: str) -> Assignment:
    """The variant of a user who is in the experiment; one of weight 0 is never assigned."""
    experiment = placed.experiment
    variant = owner(placed.variants, uniform(user_key, experiment.salt))
    if variant is None:
        raise ValueError(f"the variants of {experiment.name} leave places empty: {dict(placed.variants)}")
    return Assignment(experiment.name, variant, experiment.variants[variant].weight)


def served(placed: Placed | None, user_key: str) -> tuple[Assignment, Variant] | tuple[None, None]:
    """The variant of a user in the experiment that their request is `inside`, if it is in one."""
    if placed is None:
        return None, None
    given = assign(placed, user_key)
    return given, placed.experiment.variants[given.variant]
