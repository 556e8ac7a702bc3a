"""An experiment for tests, with the weights that a test needs, and what it says of requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from components.config import Experiment, Variant
from components.events.database import opened
from components.events.ledger import Note
from components.experiments.assignment import UNITS, Placed, place
from components.experiments.exposures import Exposure, fold
from components.experiments.statistics import Analysis, analyse
from components.experiments.store import apply


def experiment(control: float = 0.5, treatment: float = 0.5, salt: str = "salt", alpha: float = 0.05) -> Experiment:
    variants = {
        "treatment": Variant(weight=treatment, temperature=0.9),
        "control": Variant(weight=control, temperature=0.7),
    }
    known = {"salt": salt, "variants": variants, "alpha": alpha, "srm_alpha": 0.001, "attribution_hours": 0.01}
    return Experiment.model_validate({"name": "colours", "line": "text"} | known)


COLOURS = experiment()
NOTE = Note("ada", "to see")


def changed(**changes: Any) -> Experiment:
    """Another definition of the same experiment."""
    return Experiment.model_validate(COLOURS.model_dump() | changes)


def placed(running: Experiment) -> Placed:
    """In force for all users of its line."""
    return place(running, ((0, UNITS),))


def in_force(url: str, *declared: Experiment) -> None:
    """Apply these to the events database."""
    with opened(url) as engine:
        apply(engine, declared, NOTE)


def analysed(running: Experiment, rows: Iterable[Exposure]) -> Analysis:
    return analyse(running, fold(rows, [(0.0, running.weights)]))
