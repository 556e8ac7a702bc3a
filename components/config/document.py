"""`params.yaml` as a plain document: YAML 1.2, as DVC reads it (1e-4 is a number, `on` a string), and no key twice.

Knows no parameter. Whatever reads or writes the file does it here, so that nobody sees another value in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from components.artifact import write_text
from components.errors import AtelierError

_JSON = (dict, list, str, int, float, type(None))  # what a parameter may be; bool is an int


class ConfigError(AtelierError):
    """A parameter is unknown, mistyped or out of range; the message names the key, the value and what was expected."""


def read_yaml(path: Path) -> Any:
    """The file's content as mappings, lists, text, numbers, true, false and null.

    Raises `ConfigError` where it is no YAML, where a key stands twice, and for a value of another type, such as a date.
    """
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except DuplicateKeyError as error:
        raise ConfigError(
            f"{path}: line {error.problem_mark.line + 1}: {error.problem}; delete one of the two"
        ) from error
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if foreign := [f"{place} is the {type(value).__name__} {value}" for place, value in _leaves(document, "")]:
        raise ConfigError(f"{path}: {'; '.join(foreign)}: put it in quotes to have it as text")
    return document


def write_yaml(path: Path, document: Any) -> None:
    """Write what `read_yaml` gives; keys keep their order."""
    yaml = YAML(typ="safe")
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None alone
    text = StringIO()
    yaml.dump(document, text)
    write_text(path, text.getvalue())


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The values that are no JSON, by their full name."""
    if not isinstance(value, _JSON):
        yield place, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from _leaves(child, f"{place}.{key}".removeprefix("."))
