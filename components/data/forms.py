"""Forms of rows that other tools write, each turned into `prompt` and `completion`, or into `messages`.

Adding one is an entry of `FORMS`. A row that none fits is told what it may be. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Row = dict[str, Any]

# ShareGPT's names of who speaks, and what OpenAI calls the system's messages now.
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "developer": "system"}


class Form(NamedTuple):
    """A form of rows: the fields that it is told by, what they mean in words, and what makes a plain row of one.

    `plain` raises `ValueError` with the row's fault.
    """

    name: str
    fields: tuple[str, ...]
    meaning: str
    plain: Callable[[Row], Row]


def recognise(row: Row) -> Form:
    """The form of a row; raises `ValueError` where it is none, with the fields that it has."""
    for form in FORMS:
        if all(name in row for name in form.fields):
            return form
    if "prompt" in row or "completion" in row:
        return PAIR  # which says what is missing
    known = "; ".join(" + ".join(form.fields) for form in FORMS)
    raise ValueError(
        f"its fields are {', '.join(row) or 'none'}, and what is read is {known}: say which is which in "
        "prepare.text.fields, as {prompt: question, completion: answer}"
    )


def renamed(row: Row, fields: Mapping[str, str]) -> Row:
    """A row with its fields under the names that they have here; `fields`: name here → name in the row."""
    taken = {theirs: ours for ours, theirs in fields.items() if theirs in row}
    if lost := next((ours for ours in taken.values() if ours in row and ours not in taken), ""):
        raise ValueError(f"it has a field {lost!r} beside {fields[lost]!r}, which is to be read as that")
    return {taken.get(name, name): value for name, value in row.items()}


def _pair(row: Row) -> Row:
    prompt, completion = _listed(row.get("prompt")), _listed(row.get("completion"))
    if not isinstance(prompt, list) or not isinstance(completion, list):
        return row
    return _rest(row, "prompt", "completion") | {"messages": _messages(prompt + completion)}


def _openai(row: Row) -> Row:
    return row | {"messages": _messages(_listed(row["messages"]))}


def _sharegpt(row: Row) -> Row:
    turns = _listed(row["conversations"])
    if not isinstance(turns, list):
        raise ValueError(f"field 'conversations' is {type(turns).__name__}, not a list")
    return _rest(row, "conversations", "system") | {"messages": _system(row) + _messages(turns)}


def _alpaca(row: Row) -> Row:
    asked = [row["instruction"], *([row["input"]] if row.get("input") else [])]
    if wrong := next((part for part in asked if not isinstance(part, str)), None):
        raise ValueError(f"instruction or input is {type(wrong).__name__}, not text")
    prompt, answer = "\n\n".join(asked), row["output"]
    rest = _rest(row, "instruction", "input", "output", "system")
    if not (system := _system(row)):
        return rest | {"prompt": prompt, "completion": answer}
    said = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return rest | {"messages": [*system, *said]}


def _preference(row: Row) -> Row:
    """The wanted answer is learned, the other one stays beside it."""
    prompt, chosen, rejected = (_listed(row.get(name)) for name in ("prompt", "chosen", "rejected"))
    if isinstance(chosen, str):
        return _pair(_rest(row, "chosen") | {"completion": chosen})
    if not isinstance(chosen, list) or not isinstance(rejected, list) or not chosen or not rejected:
        raise ValueError("chosen and rejected are neither two texts nor two lists of messages")
    chosen, rejected = _messages(chosen), _messages(rejected)
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected differ before their last message: the last answer alone is compared")
    if isinstance(prompt, list):
        chosen = _messages(prompt) + chosen
    elif isinstance(prompt, str) and len(chosen) == 1:
        chosen = [{"role": "user", "content": prompt}, *chosen]
    rest = _rest(row, "prompt", "chosen", "rejected")
    return rest | {"messages": chosen, "rejected": rejected[-1]["content"]}


def _messages(turns: Any) -> Any:
    """Messages with OpenAI's names; what is no list of objects is left for the check that follows."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return turns
    return [_message(turn) for turn in turns]


def _message(turn: Row) -> Row:
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    named = _rest(turn, "role", "from", "content", "value")
    return {"role": _ROLES.get(role, role) if isinstance(role, str) else role, "content": content} | named


def _system(row: Row) -> list[Row]:
    return [{"role": "system", "content": row["system"]}] if row.get("system") else []


def _listed(value: Any) -> Any:
    """A list of messages that a table, which holds text alone, has as JSON; other JSON is the text that it is."""
    if not isinstance(value, str) or not value.startswith("[{"):
        return value
    try:
        turns = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return turns if all(isinstance(turn, dict) and turn.keys() & {"role", "from"} for turn in turns) else value


def _rest(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


PAIR = Form("pairs", ("prompt", "completion"), "prompt, completion", _pair)
FORMS = (
    Form("conversations", ("messages",), "messages", _openai),
    PAIR,
    Form("preferences", ("chosen", "rejected"), "prompt, chosen → completion, rejected", _preference),
    Form("ShareGPT", ("conversations",), "conversations → messages, system → the first of them", _sharegpt),
    Form("Alpaca", ("instruction", "output"), "instruction, blank line, input → prompt; output → completion", _alpaca),
)
