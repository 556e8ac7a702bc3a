"""Reactions become training material: pure rules on rows, every judged answer either used or dropped with a reason.

From answers that users liked come pairs to fine-tune on (as in RAFT, Dong et al. 2023); a disliked answer becomes what
the model shall rather not write, wherever a user or an annotator has a better one for its prompt. Users who look like
programs count for nothing, one user's weight is bounded, and held-out users teach nothing: what they like is what a
model that has learned is tested on. Knows no database and no clock. Who a user is, the client says: whoever holds an
API key can invent some, so that the bounds hold per name and not per key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from components.config import Learning
from components.data.concept import draw
from components.data.filters import normalise

MINUTE = 60.0


def same_prompt(text: str) -> str:
    """What two prompts have in common that count as the same."""
    return normalise(text).casefold()


@dataclass(frozen=True)
class Judged:
    """An answer and what the user who asked thought of it last; `time` is the request's, in epoch seconds."""

    request_id: str
    time: float
    user_key: str
    deployment: str
    prompt: str
    output: str
    liked: bool

    @property
    def asked(self) -> str:
        return same_prompt(self.prompt)


@dataclass(frozen=True)
class Rejected:
    """A judged answer that teaches nothing, and why."""

    answer: Judged
    reason: str


@dataclass
class Harvest:
    """Of each prompt the answer that most users like (`pairs`) and the one that most dislike, where `min_likes` do.

    `held_out`: all answers of held-out users that count.
    """

    pairs: list[Judged] = field(default_factory=list)
    disliked: list[Judged] = field(default_factory=list)
    held_out: list[Judged] = field(default_factory=list)
    rejects: list[Rejected] = field(default_factory=list)
    read: int = 0

    def counts(self) -> dict[str, int]:
        sizes = {name: len(value) for name, value in vars(self).items() if isinstance(value, list)}
        return {"read": self.read, **sizes}

    def reasons(self) -> dict[str, int]:
        return dict(Counter(rejected.reason.partition(":")[0] for rejected in self.rejects))


def harvest(answers: Iterable[Judged], settings: Learning, simulated: AbstractSet[str] = frozenset()) -> Harvest:
    """What `answers` teach; `simulated` are the ids of a simulated audience's requests, which teach nothing."""
    found = Harvest()
    usable: list[Judged] = []
    by_user: dict[str, list[Judged]] = defaultdict(list)
    for answer in sorted(answers, key=lambda a: (a.time, a.request_id)):
        found.read += 1
        by_user[answer.user_key].append(answer)
    for user, own in by_user.items():
        kept, rejected = _of_one_user(own, settings, simulated)
        found.rejects += rejected
        (found.held_out if is_held_out(user, settings) else usable).extend(kept)
    found.held_out.sort(key=lambda answer: answer.time)
    by_prompt: dict[str, list[Judged]] = defaultdict(list)
    for answer in usable:
        by_prompt[answer.asked].append(answer)
    for own in by_prompt.values():
        _learn(own, settings.min_likes, found)
    return found


def is_held_out(user_key: str, settings: Learning) -> bool:
    """Whether nothing of a user may teach, now or later: it depends on the key alone."""
    return draw(user_key, settings.seed) < settings.held_out_users


def set_apart(found: Harvest, taught: AbstractSet[str]) -> Harvest:
    """`found` where others teach the prompts `taught` (as `Judged.asked`).

    What held-out users think of those is rejected, and so is a disliked answer to any other prompt.
    """
    known = [Rejected(answer, "taught by others") for answer in found.held_out if answer.asked in taught]
    lone = [
        Rejected(answer, "disliked, with no better answer") for answer in found.disliked if answer.asked not in taught
    ]
    return replace(
        found,
        held_out=[answer for answer in found.held_out if answer.asked not in taught],
        disliked=[answer for answer in found.disliked if answer.asked in taught],
        rejects=found.rejects + known + lone,
    )


def _of_one_user(
    answers: list[Judged], settings: Learning, simulated: AbstractSet[str]
) -> tuple[list[Judged], list[Rejected]]:
    """The answers of one user that count, and the others; `answers` in the order of time."""
    robot = like_a_program(answers, settings)
    newest = {answer.asked: answer for answer in answers if answer.output.strip()}
    counted = sorted(newest.values(), key=lambda a: a.time)[-settings.max_per_user :]
    chosen = {answer.request_id for answer in counted}
    kept, rejected = [], []
    for answer in answers:
        reason = (
            "simulated audience"
            if answer.request_id in simulated
            else robot
            or ("empty answer" if not answer.output.strip() else "")
            or ("asked again by the same user" if newest[answer.asked] is not answer else "")
            or ("" if answer.request_id in chosen else f"more than {settings.max_per_user} of one user")
        )
        kept += [] if reason else [answer]
        rejected += [Rejected(answer, reason)] if reason else []
    return kept, rejected


def like_a_program(answers: Sequence[Judged], settings: Learning) -> str:
    """Why a user (answers in the order of time) is taken for a program or a spammer; empty where they are not."""
    times = [answer.time for answer in answers]
    limit = settings.max_per_minute
    if any(later - earlier < MINUTE for earlier, later in zip(times, times[limit:], strict=False)):
        return f"program: more than {limit} judged answers in a minute"
    alike = len({answer.liked for answer in answers}) == 1
    if alike and len(answers) >= settings.uninformative:
        verdict = "likes" if answers[0].liked else "dislikes"
        return f"uninformative: {verdict} each of {len(answers)} answers"
    return ""


def _learn(answers: list[Judged], min_likes: int, found: Harvest) -> None:
    """The best and the worst of the answers to one prompt, if they are that; every other answer becomes a reject."""
    votes: Counter[str] = Counter()
    for answer in answers:
        votes[answer.output] += 1 if answer.liked else -1
    first = {answer.output: answer for answer in reversed(answers)}
    best, worst = max(votes, key=votes.__getitem__), min(votes, key=votes.__getitem__)
    taught = set()
    if votes[best] >= min_likes:
        found.pairs.append(first[best])
        taught.add(first[best].request_id)
    if votes[worst] <= -min_likes:
        found.disliked.append(first[worst])
        taught.add(first[worst].request_id)
    for answer in answers:
        if answer.request_id not in taught:
            reason = "liked by too few" if votes[answer.output] < min_likes else "the prompt is taught already"
            found.rejects.append(Rejected(answer, reason))
