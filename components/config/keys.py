"""The keys of `params.yaml` as its schema has them: full names, what each holds, takes and is for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from components.config.document import ConfigError

ANY = "*"  # stands for the name or number of each entry of a mapping or list
TYPES = {
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "string": "text",
    "array": "list",
    "object": "section",
    "null": "null",
}
BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "minLength": "characters ≥",
    "maxLength": "characters ≤",
    "pattern": "matching",
    "minItems": "entries ≥",
    "maxItems": "entries ≤",
    "minProperties": "entries ≥",
    "maxProperties": "entries ≤",
}

# What became of the keys of earlier versions.
REPLACED = {
    "evaluate.text.max_new_tokens": "is now serving.text_max_new_tokens",
    "evaluate.text.temperature": "is now serving.text_temperature",
    "evaluate.image.steps": "is now serving.image_steps",
    "evaluate.image.guidance": "is now serving.image_guidance",
    "gate.image.max_kid_upper": "is now gate.image.max_kid_errors_over_base, in standard errors over the base's KID",
    "gate.image.min_alignment": "is gone: gate.image.max_named_shortfall compares with your own pictures",
    "gate.text.min_naming_gain": "is now gate.text.min_chrf_gain and min_exact_gain, of other measures",
    "verify.text.repeats": "is gone: `make bench NAME=engines` measures speed",
    "verify.image.repeats": "is gone: `make bench NAME=engines` measures speed",
    "verify.image.steps": "is now serving.image_steps",
}


@dataclass(frozen=True)
class Key:
    place: tuple[str, ...]
    takes: str  # type and bounds
    description: str
    has_keys: bool  # a section, or a list or mapping of sections

    @property
    def name(self) -> str:
        return ".".join(self.place)


@lru_cache
def keys(schema: type[BaseModel]) -> tuple[Key, ...]:
    """Every key of a schema in its order; of a section, list or mapping itself where it has a description."""
    document = schema.model_json_schema()
    return tuple(_keys(document, document.get("$defs", {}), ()))


def nearest(schema: type[BaseModel], place: Sequence[str | int]) -> str:
    """The keys that may be meant by the unknown one at `place`: of its name elsewhere, else the most like it beside it;
    empty where there are none."""
    *parents, last = map(str, place)
    # Sections may be meant too.
    places = dict.fromkeys(key.place[:n] for key in keys(schema) for n in range(1, len(key.place) + 1))
    if elsewhere := [".".join(names) for names in places if names[-1] == last and ANY not in names]:
        return " or ".join(elsewhere)
    beside = [names[-1] for names in places if len(names) == len(place) and begins(names, parents)]
    return ".".join([*parents, *close]) if (close := get_close_matches(last, beside, n=1)) else ""


def begins(place: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a key's place begins with the names given, which may be those of entries."""
    return len(place) >= len(names) and all(part in (ANY, name) for part, name in zip(place, names, strict=False))


def describe(settings: BaseModel, prefix: str) -> list[tuple[str, str, str, str]]:
    """Full name, value, what is taken and what it is for, of each key whose name begins with `prefix`.

    Raises `ConfigError` where none does.
    """
    schema, names = type(settings), prefix.split(".") if prefix else []
    chosen = [key for key in keys(schema) if begins(key.place, names)]
    if not chosen:
        meant = nearest(schema, names)
        raise ConfigError(f"no parameter begins with {prefix!r}" + (f"; did you mean {meant}?" if meant else ""))
    document = settings.model_dump(mode="json")
    given = settings.model_dump(mode="json", exclude_unset=True)

    def value(key: Key) -> str:
        if key.has_keys:
            return ""
        return _shown(_values(document, key.place)) + ("" if _values(given, key.place) else " (default)")

    return [(key.name, value(key), key.takes, key.description) for key in chosen]


def _keys(node: dict[str, Any], definitions: dict[str, Any], place: tuple[str, ...]) -> Iterator[Key]:
    options = [_resolved(option, definitions) for option in node.get("anyOf", [node])]
    entries = [_resolved(entry, definitions) for option in options for entry in _entries(option)]
    sections = [(option, place) for option in options if "properties" in option]
    sections += [(entry, (*place, ANY)) for entry in entries if "properties" in entry]
    if not sections or (place and "description" in node):
        yield Key(place, _takes(node, definitions), node.get("description", ""), bool(sections))
    for section, inside in sections:
        for name, child in section["properties"].items():
            yield from _keys(child, definitions, (*inside, name))


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return found


def _entries(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The schema of a list's or a mapping's entries, if it is one."""
    entry = node.get("items") or node.get("additionalProperties")
    return [entry] if isinstance(entry, dict) else list(node.get("patternProperties", {}).values())


def _takes(node: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Type and bounds of one value, in words."""
    if "anyOf" in node:
        return " or ".join(_takes(option, definitions) for option in node["anyOf"])
    node = _resolved(node, definitions)
    if "enum" in node:
        return ", ".join(map(str, node["enum"]))
    kind = "path" if node.get("format") == "path" else TYPES[node["type"]]
    for entry in _entries(node):
        words = _takes(entry, definitions)
        kind = f"list of {words}" if node["type"] == "array" else f"{words} for each name"
    bounds = {sign: node[word] for word, sign in BOUNDS.items() if word in node}
    return ", ".join(
        [kind, *(f"{sign} {b:g}" if isinstance(b, float) else f"{sign} {b}" for sign, b in bounds.items())]
    )


def _values(document: Any, place: Sequence[str]) -> list[Any]:
    """What a document holds at a place: one value, one of each entry, or none."""
    if not place or document is None:
        return [] if place else [document]
    first, *rest = place
    if first == ANY:
        chosen = document.values() if isinstance(document, dict) else document
    else:
        chosen = [document[first]] if first in document else []
    return [value for child in chosen for value in _values(child, rest)]


def _shown(found: Sequence[Any]) -> str:
    """Values in one line, those of several entries once each, cut after 40 characters."""
    line = ", ".join(dict.fromkeys(v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in found))
    return line if len(line) <= 40 else f"{line[:39]}…"
