"""Which parameter an unknown key means: what replaced it, one of that name elsewhere, or the nearest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel

# What became of the keys of earlier versions.
REPLACED = {
    "evaluate.text.max_new_tokens": "is now serving.text_max_new_tokens",
    "evaluate.text.temperature": "is now serving.text_temperature",
    "evaluate.image.steps": "is now serving.image_steps",
    "evaluate.image.guidance": "is now serving.image_guidance",
    "gate.text.min_naming_gain": "is now gate.text.min_chrf_gain and min_exact_gain, of other measures",
    "verify.text.repeats": "is gone: `make bench NAME=engines` measures speed",
    "verify.image.repeats": "is gone: `make bench NAME=engines` measures speed",
    "verify.image.steps": "is now serving.image_steps",
}


def nearest(schema: type[BaseModel], place: Sequence[str | int]) -> str:
    """The full name of the nearest parameter to the unknown key at `place` in `schema`; empty where none is near."""
    *parents, key = map(str, place)
    if elsewhere := [path for path in _paths(schema, "") if path.rpartition(".")[2] == key]:
        return " or ".join(elsewhere)
    return ".".join([*parents, *beside]) if (beside := get_close_matches(key, _names(schema, parents), n=1)) else ""


def _names(schema: type[BaseModel], parents: Sequence[str]) -> list[str]:
    """The keys that may stand at a place; the name of an entry (of a list or a mapping) leads to the entry's own."""
    models = [schema]
    for name in parents:
        fields = [model.model_fields[name] for model in models if name in model.model_fields]
        models = [inner for field in fields for inner in _models(field.annotation)] if fields else models
    return [name for model in models for name in model.model_fields]


def _paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The full name of every parameter that stands in no list or mapping of entries."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
