"""Reactions become training material: every judged answer is either used or rejected with a reason.

From answers that users liked come pairs to fine-tune on (as in RAFT, Dong et al. 2023); a disliked answer becomes what
the model shall rather not write, wherever a user or an annotator has a better one for its prompt. Users who look like
programs count for nothing, one user's weight is bounded, and held-out users teach nothing: what they like is what a
model that has learned is tested on. The rules are pure; `read_judged_answers` alone reads the database. Who a user is,
the client says: whoever holds an API key can invent some, so that the bounds hold per name and not per key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, select

from components.annotation.phrase_queue import prompt_key
from components.config import Learning
from components.data.concept import draw
from components.events.database import reading
from components.events.schema import ACCEPTED, ANSWERED_BY, FEEDBACK, FINISHED, LIKE
from components.events.window import BATCH, standing

MINUTE = 60.0
PHRASES_OF_ONE_USER = 5  # that annotators are shown


class Reason(StrEnum):
    """Why a judged answer teaches nothing."""

    SIMULATED = "simulated audience"
    PROGRAM = "program"
    UNINFORMATIVE = "uninformative"
    EMPTY = "empty answer"
    REPEATED = "asked again by the same user"
    OVER_USER_LIMIT = "over the limit of one user"
    TOO_FEW_LIKES = "liked by too few"
    ALREADY_TAUGHT = "the prompt is taught already"
    TAUGHT_BY_OTHERS = "taught by others"
    NO_BETTER_ANSWER = "disliked, with no better answer"


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer and the last reaction of the user who asked; `time` is the request's, in epoch seconds."""

    request_id: str
    time: float
    user_key: str
    deployment: str
    prompt: str
    output: str
    liked: bool

    @property
    def key(self) -> str:
        return prompt_key(self.prompt)


@dataclass(frozen=True)
class Rejected:
    """A judged answer that teaches nothing, and why; `details`: the reason with its numbers, where it has any."""

    answer: JudgedAnswer
    reason: Reason
    details: str = ""

    @property
    def text(self) -> str:
        return self.details or self.reason.value


@dataclass
class Harvest:
    """Of each prompt the answer that most users like (`pairs`) and the one that most dislike, where `min_likes` do.

    `held_out`: all answers of held-out users that count.
    """

    pairs: list[JudgedAnswer] = field(default_factory=list)
    disliked: list[JudgedAnswer] = field(default_factory=list)
    held_out: list[JudgedAnswer] = field(default_factory=list)
    rejects: list[Rejected] = field(default_factory=list)
    read: int = 0

    def counts(self) -> dict[str, int]:
        sizes = {name: len(value) for name, value in vars(self).items() if isinstance(value, list)}
        return {"read": self.read, **sizes}

    def reasons(self) -> dict[str, int]:
        return dict(Counter(rejected.reason.value for rejected in self.rejects))


def read_judged_answers(
    url: str, since: float, until: float, segment: Mapping[str, str] | None = None
) -> Iterator[JudgedAnswer]:
    """Answers accepted in since <= time < until with the last reaction of the user who asked, in the order of time.

    Of requests of one message alone: what others said before, or a system prompt, would be missing from the pair.
    `segment`: of such users alone, as plan: paid.
    """
    within: tuple[ColumnElement[bool], ...] = (
        ACCEPTED.c.time >= since,
        ACCEPTED.c.time < until,
        ACCEPTED.c.line == "text",
        ACCEPTED.c.messages == 1,
    )
    # Both are of few characters, none of which JSON writes otherwise.
    within += tuple(
        ACCEPTED.c.segments.contains(f'"{key}": "{value}"', autoescape=True) for key, value in (segment or {}).items()
    )
    last = standing(*within, FEEDBACK.c.kind == LIKE)
    columns = (*(ACCEPTED.c[n] for n in ("request_id", "time", "user_key")), ANSWERED_BY.label("deployment"))
    query = (
        select(*columns, FINISHED.c.prompt, FINISHED.c.output, last.c.value)
        .join(FINISHED, FINISHED.c.request_id == ACCEPTED.c.request_id)
        .join(last, last.c.request_id == ACCEPTED.c.request_id)
        .where(last.c.rank == 1, FINISHED.c.outcome == "ok")
        .order_by(ACCEPTED.c.time)
    )
    with reading(url) as connection:
        for row in connection.execution_options(yield_per=BATCH).execute(query).mappings():
            yield JudgedAnswer(**{name: row[name] for name in row if name != "value"}, liked=row["value"] > 0)


def harvest(answers: Iterable[JudgedAnswer], settings: Learning, simulated: AbstractSet[str] = frozenset()) -> Harvest:
    """What `answers` teach; `simulated` are the ids of a simulated audience's requests, which teach nothing."""
    result = Harvest()
    usable: list[JudgedAnswer] = []
    by_user: dict[str, list[JudgedAnswer]] = defaultdict(list)
    for answer in sorted(answers, key=lambda a: (a.time, a.request_id)):
        result.read += 1
        by_user[answer.user_key].append(answer)
    for user, own in by_user.items():
        counted, rejected = _of_one_user(own, settings, simulated)
        result.rejects += rejected
        (result.held_out if is_held_out(user, settings) else usable).extend(counted)
    result.held_out.sort(key=lambda answer: answer.time)
    by_prompt: dict[str, list[JudgedAnswer]] = defaultdict(list)
    for answer in usable:
        by_prompt[answer.key].append(answer)
    for own in by_prompt.values():
        _learn(own, settings.min_likes, result)
    return result


def is_held_out(user_key: str, settings: Learning) -> bool:
    """Whether nothing of a user may teach, now or later: it depends on the key alone."""
    return draw(user_key, settings.seed) < settings.held_out_users


def for_annotators(
    rows: Sequence[Mapping[str, Any]], settings: Learning, simulated: AbstractSet[str]
) -> list[Mapping[str, Any]]:
    """The requests that annotators may see: answered ones of one message, a few of each user.

    None of a held-out user or of a simulated audience.
    """
    counted: Counter[str] = Counter()
    shown = []
    for row in rows:
        counted[row["user_key"]] += 1
        usable = row["outcome"] == "ok" and row["messages"] == 1 and row["request_id"] not in simulated
        few = counted[row["user_key"]] <= PHRASES_OF_ONE_USER
        if usable and few and not is_held_out(row["user_key"], settings):
            shown.append(row)
    return shown


def set_apart(result: Harvest, taught: AbstractSet[str]) -> Harvest:
    """The harvest where others teach the prompts `taught` (as `JudgedAnswer.key`).

    What held-out users think of those is rejected, and so is a disliked answer to any other prompt.
    """
    no_test = [Rejected(answer, Reason.TAUGHT_BY_OTHERS) for answer in result.held_out if answer.key in taught]
    alone = [Rejected(answer, Reason.NO_BETTER_ANSWER) for answer in result.disliked if answer.key not in taught]
    return replace(
        result,
        held_out=[answer for answer in result.held_out if answer.key not in taught],
        disliked=[answer for answer in result.disliked if answer.key in taught],
        rejects=result.rejects + no_test + alone,
    )


def _of_one_user(
    answers: list[JudgedAnswer], settings: Learning, simulated: AbstractSet[str]
) -> tuple[list[JudgedAnswer], list[Rejected]]:
    """The answers of one user that count, and the others; `answers` in the order of time."""
    newest = {answer.key: answer for answer in answers if answer.output.strip()}
    within_limit = sorted(newest.values(), key=lambda a: a.time)[-settings.max_per_user :]
    chosen = {answer.request_id for answer in within_limit}
    like_a_program = _like_a_program(answers, settings)

    def rejection(answer: JudgedAnswer) -> tuple[Reason, str] | None:
        if answer.request_id in simulated:
            return Reason.SIMULATED, ""
        if like_a_program:
            return like_a_program
        if not answer.output.strip():
            return Reason.EMPTY, ""
        if newest[answer.key] is not answer:
            return Reason.REPEATED, ""
        if answer.request_id not in chosen:
            return Reason.OVER_USER_LIMIT, f"more than {settings.max_per_user} of one user"
        return None

    rejections = [(answer, rejection(answer)) for answer in answers]
    return (
        [answer for answer, rejected in rejections if rejected is None],
        [Rejected(answer, *rejected) for answer, rejected in rejections if rejected is not None],
    )


def _like_a_program(answers: Sequence[JudgedAnswer], settings: Learning) -> tuple[Reason, str] | None:
    """Why a user (answers in the order of time) is taken for a program or a spammer; None where they are not."""
    times = [answer.time for answer in answers]
    limit = settings.max_per_minute
    if any(later - earlier < MINUTE for earlier, later in zip(times, times[limit:], strict=False)):
        return Reason.PROGRAM, f"{Reason.PROGRAM}: more than {limit} judged answers in a minute"
    alike = len({answer.liked for answer in answers}) == 1
    if alike and len(answers) >= settings.uninformative:
        verb = "likes" if answers[0].liked else "dislikes"
        return Reason.UNINFORMATIVE, f"{Reason.UNINFORMATIVE}: {verb} each of {len(answers)} answers"
    return None


def _learn(answers: list[JudgedAnswer], min_likes: int, result: Harvest) -> None:
    """The best and the worst of the answers to one prompt, if they are that; every other answer becomes a reject."""
    votes: Counter[str] = Counter()
    for answer in answers:
        votes[answer.output] += 1 if answer.liked else -1
    first = {answer.output: answer for answer in reversed(answers)}
    best, worst = max(votes, key=votes.__getitem__), min(votes, key=votes.__getitem__)
    taught = set()
    if votes[best] >= min_likes:
        result.pairs.append(first[best])
        taught.add(first[best].request_id)
    if votes[worst] <= -min_likes:
        result.disliked.append(first[worst])
        taught.add(first[worst].request_id)
    for answer in answers:
        if answer.request_id not in taught:
            few = votes[answer.output] < min_likes
            result.rejects.append(Rejected(answer, Reason.TOO_FEW_LIKES if few else Reason.ALREADY_TAUGHT))
