"""The one place that changes experiments: each call is one transaction, whole or not at all, and recorded.

Compared and set: what was decided on the versions that were read is written only while those are the newest, so that of
two changes at once one wins and the other says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, select

from components.config import Experiment
from components.events.database import reading, writing
from components.events.ledger import Note
from components.events.schema import ACCEPTED
from components.experiments.assignment import Placed, place
from components.experiments.changes import changes
from components.experiments.versions import LEDGER, ExperimentRefusedError, State, Version, newest


def apply(engine: Engine, declared: Sequence[Experiment], note: Note) -> list[str]:
    """Put what is declared in force; says in words what changed and what did not. Raises `ExperimentRefusedError`."""
    seen = newest(engine)
    changed, messages = changes(declared, seen, lambda name: variants_seen(engine, name))
    if changed:
        _write(engine, seen, changed, State.RUNNING, note)
    return messages


def end(engine: Engine, name: str, note: Note) -> Version:
    """End a running experiment; its users get the line's defaults, and its versions are kept."""
    seen = newest(engine)
    version = find(seen, name)
    _write(engine, seen, [version.placed], State.ENDED, note)
    return version


def reweigh(engine: Engine, seen: Sequence[Version], name: str, weights: Mapping[str, float], note: Note) -> Placed:
    """Give a running experiment of the versions that were read other weights."""
    before = find(seen, name).placed
    placed = place(before.experiment.weighted(weights), before.users, before.variants)
    _write(engine, seen, [placed], State.RUNNING, note)
    return placed


def find(versions: Sequence[Version], name: str) -> Version:
    """The running experiment of that name."""
    version = next((version for version in versions if version.name == name), None)
    if version is None:
        names = ", ".join(sorted(version.name for version in versions)) or "none"
        raise ExperimentRefusedError(f"no experiment {name!r}; there is {names}")
    if version.state is State.ENDED:
        raise ExperimentRefusedError(f"{name} was ended by {version.who} already: {version.why}")
    return version


def variants_seen(engine: Engine, name: str) -> set[str]:
    """The variants of an experiment that have had users."""
    with reading(engine, "experiments") as connection:
        return set(connection.scalars(select(ACCEPTED.c.variant).where(ACCEPTED.c.experiment == name).distinct()))


def _write(engine: Engine, seen: Sequence[Version], changed: Sequence[Placed], state: State, note: Note) -> None:
    """Append versions, decided on those that were seen; raises `OvertakenError` where there are newer ones."""
    versions = {version.name: version.version for version in seen}
    rows: list[dict[str, Any]] = [
        {
            "experiment": placed.experiment.name,
            "version": versions.get(placed.experiment.name, 0) + 1,
            "state": state,
            "definition": placed.experiment.model_dump(mode="json"),
            "places": {"users": placed.users, "variants": dict(placed.variants)},
        }
        for placed in changed
    ]
    last = max((version.number for version in seen), default=None)
    with writing(engine, f"change of {', '.join(row['experiment'] for row in rows)}") as connection:
        LEDGER.require_newest(connection, last)
        LEDGER.append(connection, rows, note)
