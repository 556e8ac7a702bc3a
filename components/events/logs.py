"""Logs of other systems, read row by row: requests with their answers, and what people made of them. Pure.

OpenAI: stored `chat.completion` objects, each with its messages, which the API gives apart, as `messages`. TensorZero:
rows of ChatInference, JsonInference, BooleanMetricFeedback, FloatMetricFeedback and DemonstrationFeedback. Langfuse:
rows of `observations_v2` (or of its API) and of `scores`. JSON lines: `id`, `time`, `user`, `model`, `messages` or
`prompt`, `answer`, `like`, `better`, `latency_s`, `prompt_tokens`, `completion_tokens`. What cannot be used is a
`Refused` with its reason.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Row = dict[str, Any]
Message = tuple[str, str]  # (role, content)
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
LATEST = 1e11  # epoch seconds, in the year 5138: greater numbers are milliseconds


@dataclass(frozen=True)
class Logged:
    """A request and its answer; `time` in epoch seconds, what is not known empty or 0.

    `group`: what a reaction may name instead of it, as an episode or a trace.
    """

    id: str
    time: float
    messages: tuple[Message, ...]
    answer: str
    user: str = ""
    model: str = ""
    group: str = ""
    latency_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Reaction:
    """Whether the answer `target` (or the one of that group) was liked, or `better`: what it should have been."""

    id: str
    target: str
    time: float
    liked: bool | None = None
    better: str = ""


@dataclass(frozen=True)
class Refused:
    """A row that cannot be used: `reason` is one of few, `details` names the value."""

    reason: str
    details: str = ""


class Unusable(Exception):  # noqa: N818 - a row's fault, no error
    """Raised inside of a reader for a row that becomes a `Refused`."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason, details)
        self.refused = Refused(reason, details)


Item = Logged | Reaction | Refused
Reader = Callable[[Row, str], Iterator[Logged | Reaction]]


def read(row: Row, name: str, like: str) -> Iterator[Item]:
    """What a row of the format `name` says; `like`: the metric, score or field that tells whether an answer was liked.

    Times that are missing, and texts that are none, make a row unusable.
    """
    try:
        yield from FORMATS[name](row, like)
    except Unusable as error:
        yield error.refused


def detect(row: Row) -> str | None:
    """The format that a row can be of alone, None where that is none or not sure."""
    keys = row.keys()
    named = {
        "openai": row.get("object") == "chat.completion",
        "tensorzero": {"function_name", "input", "output"} <= keys
        or {"metric_name", "target_id"} <= keys
        or keys >= {"inference_id", "value"},
        "langfuse": bool({"trace_id", "traceId"} & keys) and bool({"type", "name"} & keys),
        "jsonl": bool({"messages", "prompt"} & keys) and "object" not in keys,
    }
    fits = [name for name, fit in named.items() if fit]
    return fits[0] if len(fits) == 1 else None


def openai(row: Row, like: str) -> Iterator[Logged | Reaction]:
    """A stored completion; a reaction is in its `metadata`, where that has the key `like`."""
    given = row.get("messages")
    if isinstance(given, dict):  # the API's list, as it is
        given = given.get("data")
    if not given:
        raise Unusable("no messages", "the API gives them apart: put them into the object as `messages`")
    answer = _at(row, "choices", 0, "message", "content")
    metadata, usage = _mapping(row.get("metadata")), _mapping(row.get("usage"))
    identifier, when = _identifier(row), _time(row.get("created"))
    yield Logged(
        identifier,
        when,
        _messages(given),
        _answer(answer),
        user=str(row.get("user") or row.get("input_user") or metadata.get("user_id") or ""),
        model=str(row.get("model") or ""),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )
    if (value := metadata.get(like)) is not None:
        yield Reaction(f"{identifier}:{like}", identifier, when, liked=_liked(value))


def tensorzero(row: Row, like: str) -> Iterator[Logged | Reaction]:
    """A row of inference, of the metric `like`, or of a demonstration, told apart by their columns."""
    if "function_name" in row and "input" in row:
        yield _inference(row)
    elif "metric_name" in row:
        if row["metric_name"] != like:
            raise Unusable("another metric", str(row["metric_name"]))
        yield Reaction(_identifier(row), str(row.get("target_id")), _uuid_time(row), liked=_liked(row.get("value")))
    elif "inference_id" in row and "value" in row:
        better = _answer(_blocks(_parsed(row["value"])))
        yield Reaction(_identifier(row), str(row["inference_id"]), _uuid_time(row), better=better)
    else:
        raise Unusable("another table", ", ".join(sorted(row))[:100])


def _inference(row: Row) -> Logged:
    asked, output = _mapping(_parsed(row["input"])), _parsed(row.get("output"))
    system = asked.get("system")
    messages = [{"role": "system", "content": system}] if system else []
    messages += [
        {**message, "content": _blocks(message.get("content"))} if isinstance(message, dict) else message
        for message in asked.get("messages") or []
    ]
    answer = output.get("raw") if isinstance(output, dict) else _blocks(output)
    return Logged(
        _identifier(row),
        _uuid_time(row),
        _messages(messages),
        _answer(answer),
        user=str(_mapping(row.get("tags")).get("user_id") or ""),
        model=str(row.get("variant_name") or ""),
        group=str(row.get("episode_id") or ""),
        latency_s=_count(row.get("processing_time_ms")) / 1000,
    )


def langfuse(row: Row, like: str) -> Iterator[Logged | Reaction]:
    """A generation among observations, or the score `like`; other observations and scores are refused."""
    row = {_snake(key): value for key, value in row.items()}  # the API's names are in camel case
    if "data_type" in row or ("value" in row and "type" not in row):
        if row.get("name") != like:
            raise Unusable("another score", str(row.get("name")))
        target = str(row.get("observation_id") or row.get("trace_id") or "")
        yield Reaction(_identifier(row), target, _time(row.get("timestamp")), liked=_liked(row.get("value")))
        return
    if row.get("type") != "GENERATION":
        raise Unusable("no generation", str(row.get("type")))
    began, ended = _time(row.get("start_time")), row.get("end_time")
    asked, output = _parsed(row.get("input")), _parsed(row.get("output"))
    asked = asked.get("messages", asked) if isinstance(asked, dict) else asked
    usage = _mapping(_parsed(row.get("usage_details")) or row.get("usage"))
    yield Logged(
        _identifier(row),
        began,
        _messages([{"role": "user", "content": asked}] if isinstance(asked, str) else asked),
        _answer(output.get("content") if isinstance(output, dict) else output),
        user=str(row.get("user_id") or ""),
        model=str(row.get("provided_model_name") or row.get("model") or ""),
        group=str(row.get("trace_id") or ""),
        latency_s=max(_time(ended) - began, 0.0) if ended else 0.0,
        prompt_tokens=_count(usage.get("input")),
        completion_tokens=_count(usage.get("output")),
    )


def jsonl(row: Row, like: str) -> Iterator[Logged | Reaction]:
    """A conversation whose answer stands apart or ends it; one without an `id` is named by its own digest."""
    answer, messages = row.get("answer", row.get("completion")), row.get("messages")
    if messages is None:
        messages = [{"role": "user", "content": row.get("prompt")}]
    elif answer is None and isinstance(messages, list) and messages and _at(messages, -1, "role") == "assistant":
        messages, answer = messages[:-1], _at(messages, -1, "content")
    when = _time(row.get("time"))
    identifier = str(row.get("id") or _digest(row))
    yield Logged(
        identifier,
        when,
        _messages(messages),
        _answer(answer),
        user=str(row.get("user") or ""),
        model=str(row.get("model") or ""),
        latency_s=_count(1000 * row["latency_s"]) / 1000 if isinstance(row.get("latency_s"), int | float) else 0.0,
        prompt_tokens=_count(row.get("prompt_tokens")),
        completion_tokens=_count(row.get("completion_tokens")),
    )
    if row.get(like) is not None:
        yield Reaction(f"{identifier}:{like}", identifier, when, liked=_liked(row[like]))
    if row.get("better") is not None:
        yield Reaction(f"{identifier}:better", identifier, when, better=_answer(row["better"]))


FORMATS: Mapping[str, Reader] = {"openai": openai, "tensorzero": tensorzero, "langfuse": langfuse, "jsonl": jsonl}


def _identifier(row: Row) -> str:
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise Unusable("no id")
    return str(row["id"])


def _digest(row: Row) -> str:
    """What stands for a row without an id, so that a second import knows it again."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:32]


def _messages(given: Any) -> tuple[Message, ...]:
    if not isinstance(given, list) or not given:
        raise Unusable("no messages", type(given).__name__)
    messages = []
    for message in given:
        role = _at(message, "role")
        if role not in ROLES:
            raise Unusable("a role that is not read", repr(role))
        messages.append((ROLES[role], _text(_at(message, "content"), "a message that is not text")))
    if messages[-1][0] != "user":
        raise Unusable("the last message is not the user's", messages[-1][0])
    return tuple(messages)


def _answer(given: Any) -> str:
    text = _text(given, "an answer that is not text")
    if not text.strip():
        raise Unusable("an empty answer")
    return text


def _text(given: Any, reason: str) -> str:
    """A text, or the texts of OpenAI's content parts."""
    if isinstance(given, list) and given and all(_at(part, "type") == "text" for part in given):
        given = "".join(str(_at(part, "text")) for part in given)
    if not isinstance(given, str):
        raise Unusable(reason, type(given).__name__)
    if any("\ud800" <= letter <= "\udfff" for letter in given):
        raise Unusable(reason, "half a surrogate pair")
    return given


def _blocks(given: Any) -> Any:
    """TensorZero's content blocks as content parts: a text stands under `text` or, in old rows, under `value`."""
    if not isinstance(given, list):
        return given
    return [
        {"type": "text", "text": block.get("text", block.get("value"))} if _at(block, "type") == "text" else block
        for block in given
    ]


def _parsed(given: Any) -> Any:
    """JSON within JSON, as databases export it; plain text stays."""
    if isinstance(given, str):
        try:
            parsed = json.loads(given)
        except (ValueError, RecursionError):
            return given
        return parsed if isinstance(parsed, dict | list | str) else given
    return given


def _mapping(given: Any) -> Row:
    return given if isinstance(given, dict) else {}


def _at(given: Any, *path: str | int) -> Any:
    for step in path:
        try:
            given = given[step]
        except (LookupError, TypeError):
            return None
    return given


def _count(given: Any) -> int:
    return int(given) if isinstance(given, int | float) and 0 <= given < 2**31 else 0


def _liked(given: Any) -> bool:
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if (word := str(given).lower()) not in known:
        raise Unusable("neither liked nor disliked", f"{given!r} is neither 0 nor 1")
    return known[word]


def _time(given: Any) -> float:
    """Epoch seconds of seconds, milliseconds, or a date, which is in UTC unless it says otherwise."""
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < 1000 * LATEST:
        return float(given) if given < LATEST else given / 1000
    try:
        when = datetime.fromisoformat(str(given))
    except ValueError as error:
        raise Unusable("no time", repr(given)) from error
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _uuid_time(row: Row) -> float:
    """TensorZero derives a row's time from its id, a UUIDv7, and does not export it everywhere."""
    try:
        identifier = uuid.UUID(_identifier(row))
    except ValueError:
        return _time(row.get("timestamp"))
    return (identifier.int >> 80) / 1000 if identifier.version == 7 else _time(row.get("timestamp"))


def _snake(key: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)
