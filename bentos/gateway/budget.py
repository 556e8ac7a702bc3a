"""How many retries a line may still have: a token bucket. Pure: no clock, no I/O."""

from __future__ import annotations

from collections import defaultdict

from components.config import Line

SHARE = 0.1  # retries per call
MOST = 10.0  # tokens: what the last hundred calls put in, so that a long quiet time saves up no storm
FIRST = 1.0  # so that the first call of a gateway may be repeated too


class RetryBudget:
    """Of each line its own: pictures that fail do not use up the retries of text."""

    def __init__(self) -> None:
        self._tokens: defaultdict[Line, float] = defaultdict(lambda: FIRST)

    def deposit(self, line: Line) -> None:
        """For each call, whether or not it will fail."""
        self._tokens[line] = min(self._tokens[line] + SHARE, MOST)

    def withdraw(self, line: Line) -> bool:
        """Whether a retry is within the budget, and if so its price."""
        if self._tokens[line] < 1:
            return False
        self._tokens[line] -= 1
        return True
