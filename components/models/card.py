"""What is said of a model that somebody names, before it is used."""

from __future__ import annotations

from dataclasses import dataclass

from components.models.brought import LICENCES
from components.planner.shape import Shape


@dataclass(frozen=True)
class Card:
    """`facts`: what is said of the model, by name, in order; `kind`: its model type, or its pipeline's class.

    `missing`: why it cannot be used, in the words of the stage that would refuse it. `shape`: what a language model is
    planned with. `context`: the tokens that it holds, 0 where its configuration does not say.
    """

    line: str
    kind: str
    facts: dict[str, str]
    missing: list[str]
    shape: Shape | None = None
    context: int = 0


def licensed(licence: str) -> str:
    if not licence:
        return "none is named"
    if "openrail" in licence and licence in LICENCES:
        return f"{licence}: known, forbids some uses, and so must what comes out: read which"
    return f"{licence}: {'known, allows use for any purpose' if licence in LICENCES else 'not known here, read it'}"
