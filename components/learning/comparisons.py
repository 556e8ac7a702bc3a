"""Two answers to one phrase, for people to say which is better: rows in the project's database, and what was settled.

A phrase is compared once and names its comparison. That name also decides which answer stands on the left: of the older
and the newer one neither is favoured. Knows nothing of Label Studio.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select

from components.data.filters import normalise
from components.events.database import insert_new, reading, writing
from components.events.schema import COMPARISONS, storable
from components.learning.harvest import same_prompt
from components.learning.labels import name_of

CHOICES = LEFT, RIGHT, SAME, BOTH_BAD = ("left", "right", "no difference", "both bad")
LONGEST = 200  # characters of a phrase: more is cut in training, and nobody reads it


@dataclass(frozen=True)
class Given:
    """An answer that a phrase got, and where that is from."""

    phrase: str
    output: str
    origin: str


@dataclass(frozen=True)
class Comparison:
    """Two answers to a phrase side by side, and where each is from; `sample` is its name among labelling tasks."""

    sample: str
    phrase: str
    left: str
    right: str
    left_origin: str
    right_origin: str


@dataclass(frozen=True)
class Preference:
    """What people settled of a comparison: whose answers it rests on, how the tiers came to it, why and when.

    `choice` is one of `CHOICES`, empty where the comparison was discarded.
    """

    comparison: Comparison
    choice: str
    people: tuple[str, ...]
    kind: str
    why: str
    time: float

    @property
    def asked(self) -> str:
        return same_prompt(self.comparison.phrase)

    @property
    def pair(self) -> tuple[str, str] | None:
        """(better, worse), None where people prefer neither."""
        both = self.comparison.left, self.comparison.right
        return {LEFT: both, RIGHT: both[::-1]}.get(self.choice)


def different(urgent: Sequence[Given], others: Sequence[Given]) -> dict[str, list[Given]]:
    """The different answers to each phrase by its comparison's name, the phrases to ask about first coming first.

    Those of `urgent` come before the others, and among equals those that got more than one answer.
    """
    first = _grouped(urgent)
    found = _grouped([*urgent, *others])
    return {name: found[name] for name in sorted(found, key=lambda name: (name not in first, len(found[name]) < 2))}


def _grouped(answers: Iterable[Given]) -> dict[str, list[Given]]:
    found: dict[str, dict[str, Given]] = {}
    for answer in answers:
        phrase, output = storable(answer.phrase), storable(answer.output)
        same_output = normalise(output)
        if normalise(phrase) and same_output and len(phrase) <= LONGEST:
            answers_of = found.setdefault(name_of(phrase), {})
            answers_of.setdefault(same_output, Given(phrase, output, answer.origin))
    return {name: [*answers_of.values()] for name, answers_of in found.items()}


def compared(sample: str, older: Given, newer: Given) -> Comparison:
    """Two different answers to one phrase, on the sides that the name decides."""
    left, right = (older, newer) if int(sample, 16) % 2 else (newer, older)
    return Comparison(sample, older.phrase, left.output, right.output, left.origin, right.origin)


def keep(engine: Engine, made: Iterable[Comparison]) -> None:
    """Write comparisons down; one whose phrase is known stays as it is."""
    with writing(engine, "comparisons") as connection:
        for comparison in made:
            connection.execute(insert_new(engine, COMPARISONS).values(vars(comparison)))


def known(engine: Engine) -> dict[str, Comparison]:
    """Every comparison by its name."""
    with reading(engine, "comparisons") as connection:
        rows = connection.execute(select(COMPARISONS)).mappings()
        return {row["sample"]: Comparison(**row) for row in rows}
