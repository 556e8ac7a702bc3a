"""When a candidate has failed too often: the circuit breaker's state, and what counts as slow. Pure: no clock, no I/O.

It never closes again by itself, which is what the breakers on PyPI are for (they let a request through after a while to
see): the candidate is on trial, its release's driver decides, and another release has another breaker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

CONSECUTIVE = 3  # failures in a row that open it: of a candidate that fails 1 % by chance, one in a million calls
WINDOW, IN_WINDOW = 20, 6  # or that many of the last 20: within 3 to 20 calls for whatever fails a third of the time
ENOUGH = 20  # answers of the champion before its latency says anything
FAR, FAR_SECONDS = 3.0, 0.25  # far above: more than 3 times the champion's p95, and by what a user notices
PATIENCE, PATIENCE_SECONDS = 10.0, 2.0  # how long the champion's users are kept waiting for a candidate's first byte


class Breaker:
    """Of one release; `opened` is the reason of the failure that opened it, empty while it is closed."""

    def __init__(self, opened: str = "") -> None:
        self.opened = opened
        self._failed: deque[bool] = deque(maxlen=WINDOW)

    def note(self, reason: str) -> bool:
        """Take in how a call ended, empty for well; True where that opens it."""
        self._failed.append(bool(reason))
        in_a_row = len(self._failed) >= CONSECUTIVE and all(list(self._failed)[-CONSECUTIVE:])
        if self.opened or not (in_a_row or sum(self._failed) >= IN_WINDOW):
            return False
        self.opened = reason or "error"
        return True


def p95(latencies: Collection[float]) -> float | None:
    """None while there are too few."""
    return sorted(latencies)[int(0.95 * len(latencies))] if len(latencies) >= ENOUGH else None


def far_above(latency: float, champion: float | None) -> bool:
    """Whether a latency is far above the champion's p95 (seconds)."""
    return champion is not None and latency > max(FAR * champion, champion + FAR_SECONDS)


def budget(champion: float | None, timeout: float) -> float:
    """Seconds a candidate has for its first byte, so that the champion can still answer within `timeout`."""
    return timeout / 4 if champion is None else min(max(PATIENCE * champion, PATIENCE_SECONDS), timeout / 2)
