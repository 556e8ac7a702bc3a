"""Whether a release on trial stays where it is, goes on, or goes back. Pure: from what was seen to a decision.

It may be looked at every minute: the bounds are confidence sequences (package `ville`), which hold for all looks at one
state together. A candidate that is good is sent back by chance with probability `alpha` per state at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import ville

from components.config import Release as Rules
from components.events.schema import LIKE
from components.experiments.comparison import confidence_sequence
from components.experiments.exposures import User
from components.releases.machine import NEXT, SHARES, State

CANDIDATE, CHAMPION = "candidate", "champion"
TESTS = 4  # failures, slowness, likes, and dislikes at once (`dislikes`): each gets its part of alpha


class Action(StrEnum):
    HOLD = "hold"
    ADVANCE = "advance"
    ROLL_BACK = "roll back"


@dataclass(frozen=True)
class Call:
    """One call to the candidate; None where it is not known yet: it still runs, or its user left before it was slow.

    `failed_at`, `slow_at`: when that became known (epoch s). Bounds that hold at every look need calls in that order,
    as in the order in which they began, late ones would change what was looked at already.
    """

    failed: bool | None
    slow: bool | None
    failed_at: float = 0.0
    slow_at: float = 0.0


@dataclass(frozen=True)
class Share:
    """How many of `of` calls; `low` bounds the true share from below at all looks together."""

    count: int
    of: int
    low: float

    def __str__(self) -> str:
        return f"{self.count} of {self.of} calls (at least {self.low:.1%} in truth)"


@dataclass(frozen=True)
class Evidence:
    """What was seen since the state began; of `pending` calls it is not known whether they are slow.

    `likes` bounds candidate minus champion, over `users` whose attribution windows have closed, while those of
    `still_open` ones have not.
    """

    state: State
    seconds: float
    failures: Share
    slow: Share
    pending: int
    users: int
    still_open: int
    likes: tuple[float, float]
    breaker: str


@dataclass(frozen=True)
class Decision:
    action: Action
    why: str


def weigh(
    state: State,
    seconds: float,
    calls: Sequence[Call],
    everyone: tuple[Sequence[User], Sequence[User]],
    breaker: str,
    alpha: float,
) -> Evidence:
    """Turn what was seen into evidence; `everyone`: users whose windows have closed, and those whose are open."""
    closed, still_open = everyone
    users = [user for user in closed if not user.crossed]  # those who were seen with both: on the seam of two states
    interval = (-1.0, 1.0)
    if state in SHARES:
        outcomes = np.array([user.outcome(LIKE) for user in users], dtype=np.float64)
        treated = np.array([user.variant == CANDIDATE for user in users], dtype=np.bool_)
        interval = confidence_sequence(outcomes, treated, SHARES[state], alpha / TESTS)[1:]
    return Evidence(
        state=state,
        seconds=seconds,
        failures=share(settled((call.failed_at, call.failed) for call in calls), alpha / TESTS),
        slow=share(settled((call.slow_at, call.slow) for call in calls), alpha / TESTS),
        pending=sum(call.slow is None for call in calls),
        users=len(users),
        still_open=len(still_open),
        likes=interval,
        breaker=breaker,
    )


def settled(outcomes: Iterable[tuple[float, bool | None]]) -> list[bool]:
    """What is known, in the order in which it became so."""
    return [happened for _, happened in sorted(outcomes, key=lambda outcome: outcome[0]) if happened is not None]


def share(happened: Sequence[bool], alpha: float) -> Share:
    if not happened:
        return Share(0, 0, 0.0)
    low, _ = ville.BernoulliCS(alpha=alpha).fit(np.array(happened, dtype=np.float64)).interval()
    return Share(sum(happened), len(happened), max(float(low), 0.0))


def decide(seen: Evidence, rules: Rules) -> Decision:
    """A candidate goes back once it is shown to be bad, and on once it has had its chance to be shown so.

    Champion it becomes only once it is shown not to be liked much less (non-inferiority): too few users prove nothing.
    """
    low, high = seen.likes
    if seen.breaker:
        return Decision(Action.ROLL_BACK, f"a gateway's breaker opened in {seen.state}: {seen.breaker}")
    if seen.failures.low > rules.max_failures:
        return Decision(Action.ROLL_BACK, f"failed in {seen.failures}; {rules.max_failures:.1%} are allowed")
    if seen.slow.low > rules.max_slow:
        return Decision(Action.ROLL_BACK, f"slow in {seen.slow}; {rules.max_slow:.1%} are allowed")
    if high < 0:
        by = f"by {-high:.1%} to {-low:.1%}" if low <= high else "and before that not,"
        return Decision(Action.ROLL_BACK, f"liked less than the champion, {by} of {seen.users} users")
    if seen.failures.of < rules.min_requests or seen.seconds < rules.min_seconds:
        return Decision(
            Action.HOLD,
            f"{seen.state} has {seen.failures.of} of {rules.min_requests} calls and "
            f"{seen.seconds:.0f} of {rules.min_seconds} s",
        )
    late, calls = seen.slow.count + seen.pending, seen.slow.of + seen.pending
    if late > rules.max_slow * calls:
        return Decision(
            Action.HOLD,
            f"{seen.slow.count} of {calls} calls were slow, and of {seen.pending} it is not known: they still run, or "
            f"their users left; {rules.max_slow:.1%} are allowed",
        )
    if seen.state is State.AB and low < -rules.max_less_liked:
        return Decision(
            Action.HOLD,
            f"{seen.users} users may like it less than the champion, by up to {-low:.1%}; to become it, it has to be "
            f"shown that this is at most {rules.max_less_liked:.1%}; {seen.still_open} users do not count yet",
        )
    return Decision(
        Action.ADVANCE,
        f"{seen.state} → {NEXT[seen.state]}: {seen.failures.count} of {seen.failures.of} calls failed, "
        f"{seen.slow.count} were slow, of {seen.pending} that is not known; {seen.users} users do not like it less",
    )
