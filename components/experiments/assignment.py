"""Sticky assignment: which experiment of a line a user is in, and which variant they see, from their key alone.

Pure. A line and a segment of its users make a layer: a hash of the key with the layer's name gives a point, on which
one experiment at most has its place; a hash with the experiment's own salt does the same for its variants, so that
neither tells of the other. A segment's layer comes before the line's own.
The same user and places give the same variant in every process; a new salt shuffles.

Places on [0, UNITS) are given out so that a changed share moves the fewest users possible: what an owner has it keeps;
what shrinks gives back what it took last, and what grows takes from what is free. So exactly the users of the
difference move and nobody moves the other way, with any number of owners. Weighted rendezvous hashing (the largest
-w / ln u), which needs no record of who has what, moves as few with two owners only: with three, users also change
between two whose shares did not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from components.config import Experiment, Variant

UNITS = 10_000  # of users: shares and propensities are multiples of 0.0001

Intervals = tuple[tuple[int, int], ...]  # [start, end) each, in the order in which they were taken


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
    weights = {name: size(intervals) / UNITS for name, intervals in variants.items()}
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


def variant_of(placed: Placed | None, user_key: str) -> tuple[Assignment, Variant] | tuple[None, None]:
    """The variant of a user in the experiment that their request is `inside`, if it is in one."""
    if placed is None:
        return None, None
    given = assign(placed, user_key)
    return given, placed.experiment.variants[given.variant]


def in_units(shares: Mapping[str, float]) -> dict[str, int]:
    """Shares of 1 as whole units whose sum is that of the shares, rounded: the largest remainders get what is left."""
    exact = {name: round(share * UNITS, 6) for name, share in shares.items()}
    units = {name: int(value) for name, value in exact.items()}
    left = round(sum(exact.values())) - sum(units.values())
    for name in sorted(exact, key=lambda name: (units[name] - exact[name], name))[:left]:
        units[name] += 1
    return units


def allocate(wanted: Mapping[str, int], held: Mapping[str, Intervals]) -> dict[str, Intervals]:
    """Places of `wanted` units for each owner, who keeps of what it has `held` as much as it still wants.

    Who is not in `wanted` gives everything back. Raises `ValueError` where more than UNITS are wanted in all.
    """
    if sum(wanted.values()) > UNITS:
        raise ValueError(f"{sum(wanted.values())} units are wanted and there are {UNITS}")
    places = {name: _first(held.get(name, ()), wanted[name]) for name in sorted(wanted)}
    free = _free(interval for intervals in places.values() for interval in intervals)
    for name, intervals in places.items():
        taken = _first(free, wanted[name] - size(intervals))
        free = _free((*(i for intervals in places.values() for i in intervals), *taken))
        places[name] = _joined((*intervals, *taken))
    return places


def size(intervals: Intervals) -> int:
    return sum(end - start for start, end in intervals)


def owner(places: Mapping[str, Intervals], point: float) -> str | None:
    """Who owns a point of [0, 1)."""
    unit = int(point * UNITS)
    return next((name for name, intervals in places.items() if any(a <= unit < b for a, b in intervals)), None)


def _first(intervals: Intervals, units: int) -> Intervals:
    taken = []
    for start, end in intervals:
        if units > 0:
            taken.append((start, min(end, start + units)))
        units -= end - start
    return tuple(taken)


def _free(taken: Iterable[tuple[int, int]]) -> Intervals:
    """What nobody has, lowest first."""
    free, at = [], 0
    for start, end in sorted(taken):
        if at < start:
            free.append((at, start))
        at = end
    return (*free, (at, UNITS)) if at < UNITS else tuple(free)


def _joined(intervals: Intervals) -> Intervals:
    """Neighbours in a row as one."""
    joined: list[tuple[int, int]] = []
    for start, end in intervals:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, end))
    return tuple(joined)
