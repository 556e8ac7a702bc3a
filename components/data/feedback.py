"""What users and annotators taught, as the data stages read it; `components/learning/version.py` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.artifact import MANIFEST, read_manifest, verify
from components.data.sample import Sample

PAIRS, HELD_OUT = "pairs.jsonl", "held_out.jsonl"


def digest(folder: Path) -> str | None:
    """The version at hand, None where nothing was ever learned."""
    return read_manifest(folder).digest if (folder / MANIFEST).exists() else None


def pair_ids(folder: Path) -> set[str]:
    """Ids of the pairs in the version at hand; none where nothing was ever learned."""
    return {row["id"] for row in _read(folder / PAIRS)} if digest(folder) else set()


def samples(folder: Path) -> Iterator[Sample]:
    """The pairs as samples of the text line; none where nothing was ever learned. Raises `ArtifactError` on damage."""
    if digest(folder) is None:
        return
    verify(folder)
    for row in _read(folder / PAIRS):
        meta = {name: value for name, value in row.items() if name not in ("id", "prompt")}
        yield Sample(id=row["id"], text=row["prompt"], source=row["id"].partition("-")[0], meta=meta)


def held_out(folder: Path) -> list[dict[str, Any]]:
    """What held-out users thought, oldest first: `Judged` as rows; none where nothing was ever learned."""
    if digest(folder) is None:
        return []
    verify(folder)
    return _read(folder / HELD_OUT)


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:  # `splitlines` would cut at what Unicode calls a line too
        return [json.loads(line) for line in file]
