"""The card of a text-to-image pipeline in diffusers' layout: its parts, its family, sizes and noise schedule."""

from __future__ import annotations

import json
from typing import Any

from components.models.brought import licence_of, unlicensed
from components.models.brought_pipeline import INDEX, faults
from components.models.card import Card, licensed
from components.models.headers import Files
from components.models.pipelines import FAMILIES
from components.stage import StageError


def card(files: Files, licence: str | None, missing: list[str], local: bool) -> Card:
    """From `model_index.json`, the parts' configurations and the headers of their weights.

    `local`: the weights are there too, and are looked for. `missing` is what is known to be so.
    """
    index: dict[str, Any] = json.loads((files.folder / INDEX).read_bytes())
    kind = str(index.get("_class_name"))
    family = FAMILIES.get(kind)
    parts = {name: entry[1] for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None}
    named = licence or licence_of(files.folder)
    facts = {
        "family": f"{kind} ({family.name})" if family else f"{kind}, none of the families here",
        "licence": licensed(named),
        "parameters": _parameters(files, parts),
        **_pictures(files, parts),
    }
    whole = all((files.folder / part).is_dir() for part in parts)
    if family and whole and {family.network_name, "vae"} <= parts.keys():
        facts["native size"] = f"{family.native_size(files.folder)} × {family.native_size(files.folder)} pixels"
        facts["sides"] = f"multiples of {family.multiple(files.folder)} pixels"
    try:
        missing += faults(files.folder, licence) if local else unlicensed(named, licence, "image")
    except StageError as error:
        missing.append(str(error).removeprefix("base.image.model: "))
    return Card("image", kind, facts, missing)


def _parameters(files: Files, parts: dict[str, str]) -> str:
    counts = {part: sum(header.values for header in files.of_part(part).values()) for part in parts}
    each = ", ".join(f"{part} {count / 1e6:,.1f} M ({parts[part]})" for part, count in counts.items() if count)
    return f"{sum(counts.values()) / 1e6:,.1f} M: {each}"


def _pictures(files: Files, parts: dict[str, str]) -> dict[str, str]:
    """What the noise schedule says."""
    path = files.folder / "scheduler/scheduler_config.json"
    if not path.is_file():
        return {}
    schedule: dict[str, Any] = json.loads(path.read_bytes())
    said = schedule.get("prediction_type") or "the velocity (flow matching)" * ("Flow" in parts.get("scheduler", ""))
    return {"schedule": f"{parts.get('scheduler')}, predicts {said or 'what it does not say'}"}
