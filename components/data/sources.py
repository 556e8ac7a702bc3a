"""A user's own pairs of prompt and completion, and conversations, from files of rows.

A row that cannot be used becomes a reject with its reason; only a source that is no source at all raises `StageError`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from components.data import formats, forms, rows
from components.data.rows import Row, Wanted, every, judged
from components.data.sample import Reject, Sample
from components.stage import StageError

# The field of a row that names the picture's mask, as Hugging Face's image folders name further pictures of a row.
MASK = "mask_file_name"
# Further fields that later stages read where a row has them.
_USED_META = ("concept", "name", "rejected", MASK)
# What an answer says besides its content; without it, another answer would be learned.
_CALLS = ("tool_calls", "function_call")
# What Hugging Face's datasets writes beside its Arrow files; they hold no rows.
_DESCRIBES_ARROW = ("dataset_info.json", "dataset_dict.json", "state.json")
# What stages themselves write beside a sample; a row's field of that name would be taken for it, or be lost.
_OWN_META = ("history", "split_group", "cleaning")


def pairs(
    path: Path,
    fields: Mapping[str, str] | None = None,
    seen: Counter[str] | None = None,
    wanted: Wanted = every,
) -> Iterator[Sample | Reject]:
    """What a model shall answer to what, from a file of rows in any of the `forms`, or from all files of a folder.

    A conversation ends with what the model shall answer; `"weight": 0` marks answers that are not to be learned.
    Further fields are kept in `meta`. `fields`: name here → name in the rows; `seen` counts what was read as what;
    what is not `wanted` is left out.
    """
    seen = Counter() if seen is None else seen
    files, others = row_files(path)
    for file in files:
        utf8_name(file)
    if others:
        seen[f"files that are not read, as {others[0]}"] = len(others)
    for file in files:
        format = formats.recognise(file)
        read = rows.rows(file, format, wanted)
        yield from judged(file, (_sample(row, place, fields or {}, format, seen) for place, row in read))


def row_files(path: Path) -> tuple[list[Path], list[Path]]:
    """A file, or those of a folder that hold rows by their names, and the others, in order; `StageError` for none."""
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise StageError(f"prepare.text.path: {path} is neither a file nor a folder of files")
    shown = (file for file in path.rglob("*") if not any(part[0] == "." for part in file.relative_to(path).parts))
    found: list[Path] = []
    others: list[Path] = []
    for file in sorted(file for file in shown if file.is_file()):
        (found if formats.holds_rows(file) else others).append(file)
    arrow = next((file for file in others if file.suffix == ".arrow"), None)
    if arrow and all(file.name in _DESCRIBES_ARROW for file in found):
        formats.recognise(arrow)  # raises: it says what it is
    if not found:
        raise StageError(f"prepare.text.path: {path} holds no file of rows: {', '.join(sorted(formats.SUFFIXES))}")
    return found, others


def _sample(
    row: Row | Reject, place: str, fields: Mapping[str, str], format: formats.Format, seen: Counter[str]
) -> Sample | Reject:
    if isinstance(row, Reject):
        return row
    try:
        row = forms.renamed(row, fields)
        form = forms.recognise(row)
        plain = form.plain(row)
    except ValueError as error:
        return Reject(Sample(id=place, text=string(row, "prompt"), source=place), "wrong_field", str(error))
    seen[f"rows of {format} as {form.name}: {form.meaning}"] += 1
    return _conversation(plain, place) if "messages" in plain else _pair(plain, place)


def _pair(row: dict[str, Any], place: str) -> Sample | Reject:
    sample = Sample(id=place, text=string(row, "prompt"), label=string(row, "label"), source=place)
    if problem := unlike(row, ("prompt", "completion")):
        return Reject(sample, "wrong_field", problem)
    if problem := reserved(row):
        return Reject(sample, "reserved_field", problem)
    unique = identity(row["prompt"].encode(), row["completion"].encode())
    return replace(sample, id=unique, meta=rest(row, ("prompt", "label")))


def _conversation(row: dict[str, Any], place: str) -> Sample | Reject:
    """The text of the sample is what is said last before the answer; what stands before is `meta.history`.

    What follows the last answer with a weight would teach nothing and is left out.
    """
    sample = Sample(id=place, text=string(row, "prompt"), label=string(row, "label"), source=place)
    messages = row["messages"]
    problem = unlike(row, ()) or _unlike_a_conversation(messages)
    if not problem and row.get("rejected") and not _is_taught(messages[-1]):
        problem = "field 'rejected' stands beside an answer with the weight 0"
    if problem:
        return Reject(sample, "wrong_field", problem)
    if problem := reserved(row, "completion"):
        return Reject(sample, "reserved_field", problem)
    taught = max(place for place, message in enumerate(messages) if _is_taught(message))
    *history, asked, answer = (_read(message) for message in messages[: taught + 1])
    unique = identity(*(text.encode() for message in messages for text in (message["role"], message["content"])))
    meta = rest(row, ("messages", "label")) | {"completion": answer["content"]}
    return replace(sample, id=unique, text=asked["content"], meta=meta | ({"history": history} if history else {}))


def _unlike_a_conversation(messages: Any) -> str:
    """What is wrong with the messages of a row; empty where nothing is."""
    if not isinstance(messages, list):
        return f"field 'messages' is {type(messages).__name__}, not a list"
    for number, message in enumerate(messages, start=1):
        if calls := next((name for name in _CALLS if isinstance(message, dict) and message.get(name)), ""):
            return f"message {number} has {calls}, which are not read"
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return f"message {number} has no text as content"
        if message.get("role") not in ("system", "user", "assistant"):
            return f"message {number} has the role {message.get('role')!r}; system, user and assistant are read"
        if message.get("weight") not in ((None, 0, 1) if message["role"] == "assistant" else (None, 0)):
            return (
                f"message {number} has the weight {message['weight']!r}; an answer has 0 or 1, other messages have none"
            )
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if turns[::2] != ["user"] * len(turns[::2]) or turns[1::2] != ["assistant"] * len(turns[1::2]):
        return f"the roles are {', '.join(roles)}; after a system message user and assistant take turns"
    if not turns or turns[-1] != "assistant":
        return "the last message is not the assistant's: there is no answer to learn"
    if not any(map(_is_taught, messages)):
        return "every answer has the weight 0: there is none to learn"
    return ""


def _is_taught(message: dict[str, Any]) -> bool:
    return message["role"] == "assistant" and message.get("weight") != 0


def _read(message: dict[str, Any]) -> dict[str, Any]:
    """A message as samples hold it, with OpenAI's mark where it is an answer that is not to be learned."""
    untaught = message["role"] == "assistant" and not _is_taught(message)
    return {"role": message["role"], "content": message["content"]} | ({"weight": 0} if untaught else {})


def utf8_name(name: PurePath) -> None:
    """Raise `StageError` for a file whose name is no text, and so cannot stand beside a sample."""
    try:
        str(name).encode()
    except UnicodeEncodeError as error:
        raise StageError(f"{str(name)!a}: the name is not UTF-8: rename it") from error


def unlike(row: Row, names: tuple[str, ...]) -> str:
    """What is wrong with the fields of a row, of which it must have `names`; empty where nothing is."""
    for name in names:
        if name not in row:
            return f"field {name!r} is missing"
        if not isinstance(row[name], str):
            return f"field {name!r} is {type(row[name]).__name__}, not text"
    for name in _USED_META:
        if not isinstance(row.get(name) or "", str):
            return f"field {name!r} is {type(row[name]).__name__}, not text"
    return ""


def reserved(row: dict[str, Any], *others: str) -> str:
    """What is wrong with a row's own fields; a conversation's `completion` is its last answer."""
    if name := next((name for name in (*_OWN_META, *others) if name in row), ""):
        return f"field {name!r} has a meaning of its own here: rename it; what was said before belongs into messages"
    return ""


def string(row: Row, name: str) -> str:
    """A field where it is text, empty where it is not."""
    value = row.get(name)
    return value if isinstance(value, str) else ""


def rest(row: Row, known: tuple[str, ...]) -> Row:
    """A row without the `known` fields."""
    return {name: value for name, value in row.items() if name not in known}


def identity(*parts: bytes) -> str:
    """An id that follows the content, so that a re-ordered or grown source keeps every sample on its side."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:20]
