"""What came of answers that were computed again, in words: for a terminal, without what computes them."""

from __future__ import annotations

import time

from components.config import Line, Params
from components.events import rechecks
from components.events.database import NoDatabaseError, opened
from components.releases import store


def rechecked(line: Line, params: Params) -> str:
    """Of a line within a day, in one line; empty where no answer was kept, or there is no database yet."""
    try:
        with opened(params.events.url, create=False) as engine:
            seen = rechecks.summary(engine, line, time.time(), store.gone(engine, line))
    except NoDatabaseError:
        return ""
    return describe(line, seen) if seen.waiting or any(seen.counts.values()) else ""


def describe(line: Line, seen: rechecks.Summary) -> str:
    counts = ", ".join(f"{number} {verdict}" for verdict, number in seen.counts.items() if number)
    parts = [f"{line}: answers computed again within a day: {counts or 'none'}; {seen.waiting} wait"]
    if seen.error is not None:
        parts.append(f"errors are {seen.error:.2f} times those of rounding")
    if seen.fault:
        parts.append(f"FAULT {seen.fault}")
    return "; ".join(parts)
