"""Versions of experiments: frozen rows, the table of the project's database that holds them, and how they are read.

Every change of an experiment is a new row: who made it, when (epoch s) and why. The newest row of a name is in force,
unless it says `ended`; a name that has ended stays so. Raises `DatabaseError` where the database fails and
`ExperimentRefusedError` for a row that newer code wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from sqlalchemy import JSON, Column, Float, Integer, String, Table, Text, UniqueConstraint, func, select

from components.config import Experiment
from components.events.database import Database, reading
from components.events.ledger import Ledger
from components.events.schema import METADATA
from components.experiments.assignment import Intervals, Placed
from components.experiments.exposures import Epoch
from components.stage import StageError


class State(StrEnum):
    RUNNING = "running"
    ENDED = "ended"


class ExperimentRefusedError(StageError):
    """A change of experiments is not made, and nothing of it is recorded; the message says what to do instead."""


@dataclass(frozen=True)
class Version:
    """One version of an experiment; `number` counts the versions of all of them."""

    number: int
    version: int
    state: State
    placed: Placed
    time: float
    who: str
    why: str

    @property
    def experiment(self) -> Experiment:
        return self.placed.experiment

    @property
    def name(self) -> str:
        return self.placed.experiment.name


EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("experiment", String(100), nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("definition", JSON, nullable=False),
    Column("places", JSON, nullable=False),
    Column("time", Float(53), nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    UniqueConstraint("experiment", "version", name="each_experiment_version_once"),
)
LEDGER = Ledger(EXPERIMENTS.c.number, EXPERIMENTS.c.experiment, "atelier experiment list")


def newest(database: Database) -> list[Version]:
    """Each experiment as it stands, the ended ones too, by when they changed last."""
    last = select(func.max(EXPERIMENTS.c.number)).group_by(EXPERIMENTS.c.experiment)
    return _read(database, EXPERIMENTS.c.number.in_(last))


def running(database: Database) -> list[Version]:
    """What is in force."""
    return [version for version in newest(database) if version.state is State.RUNNING]


def history(database: Database, name: str | None = None) -> list[Version]:
    """Every version, of one experiment or of all, oldest first."""
    return _read(database, *([EXPERIMENTS.c.experiment == name] if name else []))


def epochs(versions: Sequence[Version]) -> list[Epoch]:
    """From when on which weights held, of one experiment's versions."""
    return [(version.time, version.experiment.weights) for version in versions if version.state is State.RUNNING]


def _read(database: Database, *conditions: Any) -> list[Version]:
    query = select(EXPERIMENTS).where(*conditions).order_by(EXPERIMENTS.c.number)
    with reading(database, "experiments") as connection:
        return [_version(row) for row in connection.execute(query).mappings()]


def _version(row: Any) -> Version:
    try:
        experiment = Experiment.model_validate_json(json.dumps(row["definition"]))
        state = State(row["state"])
    except ValueError as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        problem = f"{first['loc']}: {first['msg']}" if first else str(error)
        name = f"version {row['version']} of experiment {row['experiment']}"
        raise ExperimentRefusedError(f"{name} was written by other code ({problem}); run that") from error
    places: Mapping[str, Any] = row["places"]
    variants = {name: _intervals(intervals) for name, intervals in places["variants"].items()}
    placed = Placed(experiment, _intervals(places["users"]), variants)
    return Version(row["number"], row["version"], state, placed, row["time"], row["who"], row["why"])


def _intervals(document: Sequence[Sequence[int]]) -> Intervals:
    return tuple((start, end) for start, end in document)
