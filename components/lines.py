"""The registry of the product's lines, `text` and `image`: what each is called and who serves it.

Two programs of the stack serve a line, so that a candidate runs beside the champion and neither is restarted when they
change roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from components.config import Line


@dataclass(frozen=True)
class LineSpec:
    """A line's `name` in paths, parameters and events, its `model` in the API, and the programs that serve it, each
    with the key of `serving` that holds its port."""

    name: Line
    model: str
    ports: Mapping[str, str]

    @property
    def programs(self) -> tuple[str, ...]:
        return tuple(self.ports)


TEXT = LineSpec("text", "atelier-text", {"text": "text_port", "text-b": "text_b_port"})
IMAGE = LineSpec("image", "atelier-image", {"image": "image_port", "image-b": "image_b_port"})
LINES: dict[Line, LineSpec] = {line.name: line for line in (TEXT, IMAGE)}
PROGRAMS = (*TEXT.programs, *IMAGE.programs)
