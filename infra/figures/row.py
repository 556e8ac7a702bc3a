"""A row of figures, and the words that rows share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A figure, the file under `metrics/` that it is read from, and the command that writes that file.

    An empty figure leaves the row out: the file says nothing of it.
    """

    source: str
    what: str
    figure: Callable[[Document], str]
    command: str


def bench(name: str) -> str:
    """The command of a benchmark."""
    return f"make bench NAME={name}"


def percent(share: float) -> str:
    """As a whole number of hundredths."""
    return f"{100 * share:.0f} %"


def listed(names: dict[str, str] | Iterable[str], figure: Callable[[str], str]) -> str:
    """The figure of each of several things, with its name: where no other is given, its key."""
    pairs = names.items() if isinstance(names, dict) else ((key, key) for key in names)
    return "; ".join(f"{name} {figure(key)}" for key, name in pairs)


def times(ratio: Document, digits: int = 1) -> str:
    """A ratio of paired rounds with its interval."""
    value, low, high = (f"{ratio[key]:.{digits}f}" for key in ("ratio", "low", "high"))
    return f"{value} × ({low} to {high})"


def spread(values: Iterable[float]) -> str:
    """The median of a few values, with the least and the most."""
    ordered = sorted(values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return f"{middle:,.0f} ({ordered[0]:,.0f} to {ordered[-1]:,.0f})"


def other_work(d: Document) -> str:
    """How busy the machine was with other work, during it or, where its processes are several, before it."""
    machine = d["machine"]
    if "cores_busy_before" in machine:
        return f"{machine['cores_busy_before']:.2f} of {machine['cores']} cores busy in the three seconds before"
    return f"{machine['cores_busy_with_other_work']:.2f} of {machine['cores']} cores busy with other work"
