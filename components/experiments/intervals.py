"""Who owns which users: places on [0, UNITS), given out so that a changed share moves the fewest users possible. Pure.

Used twice: a line's users are shared out to its experiments, and an experiment's users to its variants. What an owner
has it keeps; what shrinks gives back what it took last, and what grows takes from what is free. So exactly the users of
the difference move and nobody moves the other way, with any number of owners. Weighted rendezvous hashing (the largest
-w / ln u), which needs no record of who has what, moves as few with two owners only: with three, users also change
between two whose shares did not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

UNITS = 10_000  # of users: shares and propensities are multiples of 0.0001

Intervals = tuple[tuple[int, int], ...]  # [start, end) each, in the order in which they were taken


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
    kept = {name: _first(held.get(name, ()), wanted[name]) for name in sorted(wanted)}
    free = _free(interval for intervals in kept.values() for interval in intervals)
    for name, intervals in kept.items():
        taken = _first(free, wanted[name] - size(intervals))
        free = _free((*(i for found in kept.values() for i in found), *taken))
        kept[name] = _joined((*intervals, *taken))
    return kept


def size(intervals: Intervals) -> int:
    return sum(end - start for start, end in intervals)


def owner(places: Mapping[str, Intervals], point: float) -> str | None:
    """Who owns a point of [0, 1)."""
    unit = int(point * UNITS)
    return next((name for name, found in places.items() if any(a <= unit < b for a, b in found)), None)


def _first(intervals: Intervals, units: int) -> Intervals:
    found = []
    for start, end in intervals:
        if units > 0:
            found.append((start, min(end, start + units)))
        units -= end - start
    return tuple(found)


def _free(taken: Iterable[tuple[int, int]]) -> Intervals:
    """What nobody has, lowest first."""
    found, at = [], 0
    for start, end in sorted(taken):
        if at < start:
            found.append((at, start))
        at = end
    return (*found, (at, UNITS)) if at < UNITS else tuple(found)


def _joined(intervals: Intervals) -> Intervals:
    """Neighbours in a row as one."""
    found: list[tuple[int, int]] = []
    for start, end in intervals:
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return tuple(found)
