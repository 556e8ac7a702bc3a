"""Logs of other systems become events, with their own times, each once however often they are imported.

A request is named by its format and its id there, and answered by `imported-<format>`. How many messages it had is not
written down, so that nothing of it teaches or is shown to annotators by itself (`components.learning.harvest`): what
may be learned from, the user says by asking for pairs.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from components.data import formats, rows
from components.data.sample import Reject
from components.events.database import opened, reading
from components.events.logs import FORMATS, Item, Logged, Reaction, Refused, detect, read
from components.events.schema import ACCEPTED, LIKE, Accepted, Feedback, Finished, Outcome, hash_user
from components.events.store import GROUP, commit
from components.stage import StageError

LONGEST = 200  # characters of a name in the events


@dataclass
class Log:
    """What files said; `refused` with the file and line of each."""

    format: str
    answers: dict[str, Logged] = field(default_factory=dict)
    reactions: list[tuple[str, Reaction]] = field(default_factory=list)  # each with its place
    refused: list[tuple[str, Refused]] = field(default_factory=list)

    def refuse(self, place: str, reason: str, details: str = "") -> None:
        self.refused.append((place, Refused(reason, details)))

    def targets(self, reaction: Reaction) -> list[str]:
        """The ids of the answers that a reaction may mean."""
        if reaction.target in self.answers:
            return [reaction.target]
        return self._groups.get(reaction.target, [])

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        """Ids by what a reaction may name instead; to be asked once all is read."""
        groups: dict[str, list[str]] = defaultdict(list)
        for answer in self.answers.values():
            if answer.group:
                groups[answer.group].append(answer.id)
        return groups


@dataclass(frozen=True)
class Imported:
    """How many rows are `new` in the events, how many were there; refused ones by their reason."""

    requests: int
    new_requests: int
    reactions: int
    new_reactions: int
    reasons: dict[str, int]


def read_files(files: Sequence[Path], name: str | None, like: str) -> Log:
    """The logs in files of one format, which is told by their first row where none is named; `StageError` where it
    cannot be told, or a file holds no rows."""
    log: Log | None = None
    for place, row in (each for file in files for each in _rows(file)):
        if log is None:
            log = Log(name or _told(place, row))
        if isinstance(row, Refused):
            log.refused.append((place, row))
            continue
        for item in read(row, log.format, like):
            _add(log, place, item)
    if log is None:
        raise StageError(f"{', '.join(map(str, files))}: holds no row")
    return log


def write_events(log: Log, url: str, user_secret: str) -> Imported:
    """Write what is not there yet; reactions to answers that nobody knows are refused."""
    with opened(url) as engine:
        requests = [_request(answer, log.format, user_secret) for answer in log.answers.values()]
        # Each beside its end in one transaction: a running gateway ends old requests that have none as lost.
        new = sum(_commit(engine, [event for request in requests for event in request])[::2])
        feedback = list(_feedback(log, engine))
        new_reactions = sum(_commit(engine, feedback))
    reasons = Counter(refused.reason for _, refused in log.refused)
    return Imported(len(requests), new, len(feedback), new_reactions, dict(reasons.most_common()))


def pairs(log: Log) -> Iterator[dict[str, Any]]:
    """What may be learned: conversations with their answers, as `prepare.text` reads them.

    None that was disliked, unless somebody wrote a better answer: that is the answer then, and the other is `rejected`.
    """
    disliked, better = set(), dict[str, str]()
    for _, reaction in sorted(log.reactions, key=lambda each: each[1].time):
        for identifier in log.targets(reaction)[:1]:
            if reaction.better:
                better[identifier] = reaction.better
            elif reaction.liked:
                disliked.discard(identifier)
            else:
                disliked.add(identifier)
    for answer in log.answers.values():
        if answer.id in disliked and answer.id not in better:
            continue
        said = [*answer.messages, ("assistant", better.get(answer.id, answer.answer))]
        row: dict[str, Any] = {"messages": [{"role": role, "content": content} for role, content in said]}
        if answer.id in better and better[answer.id] != answer.answer:
            row["rejected"] = answer.answer
        yield row | {"origin": _name(log.format, answer.id)}


def _told(place: str, row: dict[str, Any] | Refused) -> str:
    name = detect(row) if isinstance(row, dict) else None
    if name is None:
        seen = ", ".join(sorted(row)[:12]) if isinstance(row, dict) else row.details
        raise StageError(f"{place}: the format cannot be told ({seen}); name it: --format {'|'.join(FORMATS)}")
    return name


def _add(log: Log, place: str, item: Item) -> None:
    if isinstance(item, Refused):
        log.refused.append((place, item))
    elif isinstance(item, Reaction):
        log.reactions.append((place, item))
    elif log.answers.setdefault(item.id, item) != item:
        log.refuse(place, "another answer of the same id", item.id)


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any] | Refused]]:
    """Each row of a file of any format that samples are read from, or of a list's `data`, by file and number."""
    if not file.is_file():
        raise StageError(f"{file} is not a file")
    format = formats.recognise(file)
    for place, row in _listed(file, format) or rows.rows(file, format):
        if isinstance(row, Reject):
            reason, _, details = row.reason.partition(": ")
            yield place, Refused(reason, details or row.sample.text[:100])
        else:
            yield place, row


def _listed(file: Path, format: formats.Format) -> list[rows.Placed]:
    """The rows of a file that is one object, alone or with them in `data`; none for JSON lines, which the first line
    shows in most cases."""
    if format.kind != "JSON lines":
        return []
    with formats.opened(file, format) as lines:
        first = rows.json_object(next((line for line in lines if line.strip()), b""), file.name)
        if isinstance(first, dict) and not isinstance(first.get("data"), list):
            return []
    with formats.opened(file, format) as whole:
        document = rows.json_object(whole.read(), file.name)
    if isinstance(document, Reject):
        return []
    listed = document["data"] if isinstance(document.get("data"), list) else [document]
    return [(f"{file.name}:{number}", rows.checked(row, file.name)) for number, row in enumerate(listed, start=1)]


def _name(name: str, identifier: str) -> str:
    whole = f"{name}:{identifier}"
    return whole if len(whole) <= LONGEST else f"{name}:{hashlib.sha256(identifier.encode()).hexdigest()}"


def _request(answer: Logged, name: str, secret: str) -> tuple[Accepted, Finished]:
    """Who is not named counts as somebody else each time."""
    identifier = _name(name, answer.id)
    accepted = Accepted(
        request_id=identifier,
        time=answer.time,
        user_key=hash_user(f"user:{answer.user}" if answer.user else identifier, secret),
        line="text",
        deployment=f"imported-{name}",
        model=(answer.model or "unknown")[:LONGEST],
        messages=0,
    )
    finished = Finished(
        request_id=identifier,
        time=answer.time + answer.latency_s,
        latency_s=answer.latency_s,
        outcome=Outcome.OK,
        status=200,
        prompt="\n".join(content for role, content in answer.messages if role == "user"),
        output=answer.answer,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
    )
    return accepted, finished


def _feedback(log: Log, engine: Engine) -> Iterator[Feedback]:
    """Likes and dislikes, each of the user who asked; of answers that an earlier import brought too."""
    with reading(engine) as connection:
        for place, reaction in log.reactions:
            targets = log.targets(reaction) or [reaction.target]
            if len(targets) > 1:
                log.refuse(place, "a reaction to several answers", f"{reaction.target} has {len(targets)}")
                continue
            identifier = _name(log.format, targets[0])
            asked = select(ACCEPTED.c.user_key).where(ACCEPTED.c.request_id == identifier)
            user = connection.execute(asked).scalar()
            if user is None:
                log.refuse(place, "a reaction to an unknown answer", reaction.target)
            elif reaction.liked is not None:
                yield Feedback(
                    request_id=identifier,
                    time=reaction.time,
                    key=_name(log.format, reaction.id),
                    user_key=user,
                    kind=LIKE,
                    value=float(reaction.liked),
                )


def _commit(engine: Engine, events: Sequence[Accepted | Finished | Feedback]) -> list[bool]:
    return [new for at in range(0, len(events), GROUP) for new in commit(engine, events[at : at + GROUP])]
