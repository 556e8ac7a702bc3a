"""The two places of a line: programs of the stack that each serve one deployment, so that a candidate runs beside the
champion and neither is restarted when they change roles.

`.atelier/deployed/<program>.json` says what a place serves. Which of them gets users is not decided here, but by the
releases in the database, which the gateway reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from components.artifact import write_text
from components.config import Line
from components.events.schema import Deployment
from components.stage import StageError
from flows import stack
from flows.environment import STATE

SLOTS: dict[Line, tuple[str, str]] = {"text": ("text", "text-b"), "image": ("image", "image-b")}
LINES: tuple[Line, ...] = tuple(SLOTS)


def deployed(program: str) -> Deployment | None:
    """The deployment a program serves, or None where nothing was deployed into it."""
    record = STATE / "deployed" / f"{program}.json"
    return Deployment.model_validate_json(record.read_bytes()) if record.exists() else None


def require_deployed(program: str) -> Deployment:
    found = deployed(program)
    if found is None:
        raise StageError(f"no {program} model is deployed yet; run `atelier release start` after `dvc repro`")
    return found


def place(program: str, record: Deployment) -> None:
    write_text(STATE / "deployed" / f"{program}.json", json.dumps(record.model_dump(), indent=1))


def slot_of(line: Line, deployment: str | None) -> str | None:
    """The program that serves a deployment, or None."""
    return next((slot for slot in SLOTS[line] if (found := deployed(slot)) and found.deployment == deployment), None)


def leave(line: Line, deployment: str) -> None:
    """Stop what serves a candidate that was sent back, and forget that it did; its users are the champion's already."""
    slot = slot_of(line, deployment)
    if slot is None:
        return
    (STATE / "deployed" / f"{slot}.json").unlink()
    if slot in stack.running():
        stack.control("stop", slot)


def slot_beside(line: Line, deployment: str | None) -> str:
    """The first program of a line that does not serve `deployment`: what may be replaced while that goes on."""
    return next(slot for slot in SLOTS[line] if slot != slot_of(line, deployment))


def served(line: Line, champion: str | None) -> Deployment | None:
    """What users of this machine get: the champion where a program serves it, else what the first occupied one does."""
    records = [found for slot in SLOTS[line] if (found := deployed(slot))]
    return next((record for record in records if record.deployment == champion), records[0] if records else None)


def startable(champions: Mapping[Line, str | None]) -> tuple[list[str], dict[str, str]]:
    """The programs that can serve, and of the others the tag of the Bento that the store has lost.

    Raises `StageError` where a line's users would be left without an answer.
    """
    store = Path(os.environ["BENTOML_HOME"]) / "bentos"
    tags = {slot: require_deployed(slot).bento for slot in occupied()}
    lost = {slot: tag for slot, tag in tags.items() if not (store / tag.replace(":", "/")).is_dir()}
    for line, champion in champions.items():
        record = served(line, champion)
        if record and slot_of(line, record.deployment) in lost:
            raise StageError(f"the Bento store has lost {record.bento}, which serves {line}; `atelier release start`")
    return [slot for slot in tags if slot not in lost], lost


def occupied() -> list[str]:
    """The programs that have something to serve."""
    return [slot for line in LINES for slot in SLOTS[line] if deployed(slot)]
