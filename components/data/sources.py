"""A user's own samples: an image folder with `metadata.jsonl`, or a JSONL file of prompts and completions.

A row that cannot be used becomes a reject with its reason; only a source that is no source at all raises `StageError`.
Pictures are read as bytes and never decoded here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from components.data.sample import METADATA, Reject, Sample
from components.stage import StageError

# No picture worth training on is larger as a file; a row that names a disk image must not fill the memory.
_MAX_BYTES = 2**28
# Files that hold one picture's caption, as other tools write them.
_CAPTION_SUFFIXES = (".txt", ".caption", ".json")
# Further fields that later stages read where a row has them.
_USED_META = ("concept", "name", "rejected")
# What stages themselves write beside a sample; a row's field of that name would be taken for it, or be lost.
_OWN_META = ("history", "split_group")


def image_folder(folder: Path) -> Iterator[Sample | Reject]:
    """Rows `{"file_name", "text", "label"?, ...}` of `metadata.jsonl`; further fields are kept in `meta`."""
    if not folder.is_dir():
        raise StageError(f"prepare.image.path: {folder} is not a folder")
    metadata = folder / METADATA
    if not metadata.is_file():
        raise StageError(
            f"{folder}: no {METADATA}; {_content(folder)}; write {METADATA}: one JSON object with file_name and text "
            "per line, per picture"
        )
    for place, row in _rows(metadata):
        yield row if isinstance(row, Reject) else _picture(folder, row, place)


def _content(folder: Path) -> str:
    """What a folder without captions as they are read here holds instead, in words."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    pictures = {path.stem for path in files if (guess_type(path.name)[0] or "").startswith("image/")}
    beside = [path.name for path in files if path.stem in pictures and path.suffix in _CAPTION_SUFFIXES]
    alike = [path.name for path in files if get_close_matches(path.name.lower(), [METADATA])]
    folders = sum(path.is_dir() for path in folder.iterdir())
    parts = [f"{name}, not read," for name in alike]
    parts += [_counted(len(pictures), "picture")] if pictures else []
    parts += [f"{_counted(len(beside), 'file')} named after them, as {beside[0]}, not read"] if beside else []
    parts += [f"{_counted(folders, 'folder')}, not looked into"] if folders else []
    return f"it holds {' and '.join(parts) or _counted(len(files), 'file') + ' and no picture'}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def pairs(path: Path) -> Iterator[Sample | Reject]:
    """Rows of a JSONL file: `{"prompt", "completion", …}`, or `{"messages": [{"role", "content"}, …], …}`.

    A conversation ends with what the model shall answer; `"weight": 0` marks answers that are not to be learned.
    Further fields are kept in `meta`.
    """
    if not path.is_file():
        raise StageError(f"prepare.text.path: {path} is not a file")
    for place, row in _rows(path):
        if isinstance(row, Reject):
            yield row
        else:
            yield _conversation(row, place) if "messages" in row else _pair(row, place)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | Reject]]:
    """Every line that is not blank, by file and number: an object, or a reject that holds what could be read of it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                place = f"{path.name}:{number}"
                yield place, _object(line, place)


def _object(line: bytes, place: str) -> dict[str, Any] | Reject:
    broken = Sample(id=place, text=line.decode("utf-8", errors="replace").strip(), source=place)
    try:
        document = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except UnicodeDecodeError as error:
        return Reject(broken, "not_utf8", f"not UTF-8: byte {error.start} is 0x{line[error.start]:02x}")
    except (ValueError, RecursionError) as error:
        return Reject(broken, "not_json", f"not JSON: {error}")
    return document if isinstance(document, dict) else Reject(broken, "not_json", "not a JSON object")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _picture(folder: Path, row: dict[str, Any], place: str) -> Sample | Reject:
    sample = Sample(id=place, text=_string(row, "text"), label=_string(row, "label"), source=place)
    if problem := _missing(row, ("file_name", "text")):
        return Reject(sample, "wrong_field", problem)
    if problem := _reserved(row):
        return Reject(sample, "reserved_field", problem)
    path = folder / row["file_name"]
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            return Reject(sample, "no_file", f"file_name {row['file_name']!r} points outside the folder")
        if not path.is_file():
            return Reject(sample, "no_file", f"file_name {row['file_name']!r} is not a file")
        if path.stat().st_size > _MAX_BYTES:
            return Reject(sample, "no_file", f"file_name {row['file_name']!r} is larger than {_MAX_BYTES} bytes")
        data = path.read_bytes()
    except FileNotFoundError:
        return Reject(sample, "no_file", f"file_name {row['file_name']!r} does not exist")
    except (OSError, ValueError, RuntimeError) as error:
        return Reject(sample, "no_file", f"file_name {row['file_name']!r} cannot be read: {error}")
    meta = _rest(row, ("text", "label"))
    return replace(sample, id=_identity(data, row["text"].encode()), image=data, meta=meta)


def _pair(row: dict[str, Any], place: str) -> Sample | Reject:
    sample = Sample(id=place, text=_string(row, "prompt"), label=_string(row, "label"), source=place)
    if problem := _missing(row, ("prompt", "completion")):
        return Reject(sample, "wrong_field", problem)
    if problem := _reserved(row):
        return Reject(sample, "reserved_field", problem)
    identity = _identity(row["prompt"].encode(), row["completion"].encode())
    return replace(sample, id=identity, meta=_rest(row, ("prompt", "label")))


def _conversation(row: dict[str, Any], place: str) -> Sample | Reject:
    """The text of the sample is what is said last before the answer; what stands before is `meta.history`.

    What follows the last answer with a weight would teach nothing and is left out.
    """
    sample = Sample(id=place, text=_string(row, "prompt"), label=_string(row, "label"), source=place)
    messages = row["messages"]
    problem = _missing(row, ()) or _unlike_a_conversation(messages)
    if not problem and row.get("rejected") and not _is_taught(messages[-1]):
        problem = "field 'rejected' stands beside an answer with the weight 0"
    if problem:
        return Reject(sample, "wrong_field", problem)
    if problem := _reserved(row, "completion"):
        return Reject(sample, "reserved_field", problem)
    taught = max(place for place, message in enumerate(messages) if _is_taught(message))
    *history, asked, answer = (_read(message) for message in messages[: taught + 1])
    identity = _identity(*(text.encode() for message in messages for text in (message["role"], message["content"])))
    meta = _rest(row, ("messages", "label")) | {"completion": answer["content"]}
    return replace(sample, id=identity, text=asked["content"], meta=meta | ({"history": history} if history else {}))


def _unlike_a_conversation(messages: Any) -> str:
    """What is wrong with the messages of a row; empty where nothing is."""
    if not isinstance(messages, list):
        return f"field 'messages' is {type(messages).__name__}, not a list"
    for number, message in enumerate(messages, start=1):
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


def _missing(row: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if name not in row:
            return f"field {name!r} is missing"
        if not isinstance(row[name], str):
            return f"field {name!r} is {type(row[name]).__name__}, not text"
    for name in _USED_META:
        if not isinstance(row.get(name) or "", str):
            return f"field {name!r} is {type(row[name]).__name__}, not text"
    return ""


def _reserved(row: dict[str, Any], *others: str) -> str:
    """What is wrong with a row's own fields; a conversation's `completion` is its last answer."""
    if name := next((name for name in (*_OWN_META, *others) if name in row), ""):
        return f"field {name!r} has a meaning of its own here: rename it; what was said before belongs into messages"
    return ""


def _string(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _rest(row: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in known}


def _identity(*parts: bytes) -> str:
    """An id that follows the content, so that a re-ordered or grown source keeps every sample on its side."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:20]
