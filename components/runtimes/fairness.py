"""Who is admitted to an engine next: fair to keys, then to a key's users, by the tokens they have in work.

A prompt is read before its first token is written, and prompts are read one after the other. So few of their tokens are
let in at a time: who comes with a short prompt waits for what is being read, not for all that others have sent. A step
that reads takes long, and who writes gets one token of it: so the reading of long prompts pauses for writers. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar


class Work(Protocol):
    """A job: `share` is a key, a slash and a user of it; `cost` its tokens, `unread` those of a prompt not yet read."""

    @property
    def share(self) -> str: ...

    @property
    def cost(self) -> int: ...

    @property
    def unread(self) -> int: ...


LONG_PROMPT = 64  # tokens; what is shorter makes a step hardly longer

WorkT = TypeVar("WorkT", bound=Work)


def admissible(
    waiting: Sequence[WorkT], working: Sequence[WorkT], budget: int, writers_turn: bool = False
) -> list[WorkT]:
    """The waiting jobs to admit now, in order, until the prompts that are being read have `budget` tokens.

    Next is always who has least in work: of the keys, then of this key's users, then who came first. A prompt beyond
    the budget is read alone. In the writers' turn the next long one waits where others have far less in work.
    """
    in_work: Counter[str] = Counter()
    for job in working:
        in_work.update(dict.fromkeys(holders(job.share), job.cost))
    reading = sum(job.unread for job in working)
    left, admitted = list(waiting), list[WorkT]()
    first = [*working, *(job for job in waiting if job.unread <= LONG_PROMPT)] if writers_turn else []
    while left:
        job = min(left, key=lambda job: standing(in_work, job.share))
        if _waits(job, first, in_work):
            left = [job for job in left if job.unread <= LONG_PROMPT]  # nor is it overtaken by another long one
            continue
        if reading and reading + job.unread > budget:
            break
        left.remove(job)
        admitted.append(job)
        reading += job.unread
        in_work.update(dict.fromkeys(holders(job.share), job.cost))
    return admitted


def _waits(job: Work, others: Sequence[Work], in_work: Mapping[str, int]) -> bool:
    """Whether a long prompt's sender would have over twice as much in work as somebody else has who is at work.

    Senders are compared as keys or, where they have the same, as its users. Their own work makes nobody wait.
    """
    if job.unread <= LONG_PROMPT:
        return False
    key = job.share.partition("/")[0]
    for other in others:
        theirs = other.share.partition("/")[0]
        mine, theirs = (job.share, other.share) if theirs == key else (key, theirs)
        if mine != theirs and 2 * in_work[theirs] < in_work[mine] + job.cost:
            return True
    return False


def holders(share: str) -> set[str]:
    """Whom work of a share counts for: the key, and the user of it."""
    return {share.partition("/")[0], share}


def standing(held: Mapping[str, int], share: str) -> tuple[int, int]:
    """What the key of a share holds and what its user does: who has less comes first."""
    return held.get(share.partition("/")[0], 0), held.get(share, 0)
