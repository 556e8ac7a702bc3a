"""The one place that changes experiments: each call is one transaction, whole or not at all, and recorded.

Compared and set: what was decided on the versions that were read is written only while those are the newest, so that of
two changes at once one wins and the other says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, func, insert, select

from components.config import Experiment
from components.events.schema import ACCEPTED, storable
from components.events.transactions import reading, writing
from components.experiments.assignment import Placed, place
from components.experiments.changes import changes
from components.experiments.versions import EXPERIMENTS, ExperimentRefusedError, State, Version, newest
from components.releases.schema import Note


class OvertakenError(ExperimentRefusedError):
    """Somebody else changed experiments after they were read."""


def apply(engine: Engine, declared: Sequence[Experiment], note: Note) -> list[str]:
    """Put what is declared in force; says in words what changed and what did not. Raises `ExperimentRefusedError`."""
    known = newest(engine)
    found = changes(declared, known, lambda name: seen(engine, name))
    if found.placed:
        _write(engine, known, found.placed, "running", note)
    return list(found.told)


def end(engine: Engine, name: str, note: Note) -> Version:
    """End a running experiment; its users get the line's defaults, and its versions are kept."""
    known = newest(engine)
    version = find(known, name)
    _write(engine, known, [version.placed], "ended", note)
    return version


def reweigh(engine: Engine, known: Sequence[Version], name: str, weights: Mapping[str, float], note: Note) -> Placed:
    """Give a running experiment of the versions that were read other weights."""
    before = find(known, name).placed
    placed = place(before.experiment.weighted(weights), before.users, before.variants)
    _write(engine, known, [placed], "running", note)
    return placed


def find(known: Sequence[Version], name: str) -> Version:
    """The running experiment of that name."""
    version = next((version for version in known if version.name == name), None)
    if version is None:
        names = ", ".join(sorted(version.name for version in known)) or "none"
        raise ExperimentRefusedError(f"no experiment {name!r}; there is {names}")
    if version.state == "ended":
        raise ExperimentRefusedError(f"{name} was ended by {version.who} already: {version.why}")
    return version


def seen(engine: Engine, name: str) -> set[str]:
    """The variants of an experiment that have had users."""
    with reading(engine, "experiments") as connection:
        return set(connection.scalars(select(ACCEPTED.c.variant).where(ACCEPTED.c.experiment == name).distinct()))


def _write(engine: Engine, known: Sequence[Version], changed: Sequence[Placed], state: State, note: Note) -> None:
    versions = {version.name: version.version for version in known}
    rows: list[dict[str, Any]] = [
        {
            "experiment": placed.experiment.name,
            "version": versions.get(placed.experiment.name, 0) + 1,
            "state": state,
            "definition": placed.experiment.model_dump(mode="json"),
            "places": {"users": placed.users, "variants": dict(placed.variants)},
            "time": time.time(),
            "who": storable(note.who),
            "why": storable(note.why),
        }
        for placed in changed
    ]
    with writing(engine, f"change of {', '.join(row['experiment'] for row in rows)}") as connection:
        if engine.dialect.name == "postgresql":  # SQLite's writers come one after another anyway
            connection.exec_driver_sql("LOCK TABLE experiments IN SHARE ROW EXCLUSIVE MODE")
        last = connection.scalar(select(func.max(EXPERIMENTS.c.number)))
        if last != max((version.number for version in known), default=None):
            row = connection.execute(select(EXPERIMENTS).where(EXPERIMENTS.c.number == last)).one()
            raise OvertakenError(
                f"{row.experiment} was changed meanwhile, by {row.who}: {row.why}. Nothing of this is recorded: look "
                "at `atelier experiment list`, and repeat it if it is still right"
            )
        connection.execute(insert(EXPERIMENTS), rows)
