"""Users of two equal variants who come back each day and react late, as gateways record them, and looks at them.

For what the report says: from events to verdict by the product's own functions.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert

from components.config import Experiment
from components.events.database import opened, writing
from components.events.schema import ACCEPTED, FEEDBACK
from components.experiments.exposures import by_closing
from components.experiments.statistics import Analysis, analyse
from monitoring.experiments import users_of
from tests.components.events.examples import accepted, like
from tests.components.experiments.examples import in_force as declare

DAY = 86_400.0
RATE, TASTE = 0.3, 2.0  # users' own rates of liking spread by 0.26 around 0.3
LATE = 0.2  # of reactions reach the gateway one to three days after they were made, the others at once


@dataclass(frozen=True)
class Visits:
    """Users (n,) with their variants, and a request of each on each day (n, days): whether it is liked, and when the
    gateway hears of it, in days."""

    treated: NDArray[np.bool_]
    at: NDArray[np.float64]
    liked: NDArray[np.bool_]
    heard: NDArray[np.float64]


def visits(seed: int, users: int, days: int) -> Visits:
    rng = np.random.default_rng([7, seed])
    taste = rng.beta(RATE * TASTE, (1 - RATE) * TASTE, users)
    treated = rng.random(users) < 0.5
    at = np.arange(days) + rng.random((users, days))
    liked = rng.random((users, days)) < taste[:, None]
    late = np.where(rng.random((users, days)) < LATE, rng.uniform(1, 3, (users, days)), 1e-4)
    return Visits(treated, at, liked, at + late)


def rows(seen: Visits) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Accepted requests, and likes that say that they were made at once."""
    asked, said = [], []
    for (user, day), at in np.ndenumerate(seen.at):
        name, key = f"r{user}-{day}", f"u{user}"
        variant = "treatment" if seen.treated[user] else "control"
        asked.append(accepted(name, at=DAY * at, user=key, variant=variant).model_dump())
        if seen.liked[user, day]:
            received = DAY * float(seen.heard[user, day])
            said.append(like(name, name, at=DAY * at + 1, user=key).model_dump() | {"received": received})
    return asked, said


class Looks:
    """Databases, each a copy of one that is migrated and has the experiment in force."""

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.folder, self.empty, self.experiment = folder, folder / "empty.db", experiment
        declare(f"sqlite:///{self.empty}", experiment)
        with opened(f"sqlite:///{self.empty}") as engine, engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def filled(self, seen: Visits) -> str:
        """URL of a database with these visits, in place of the one before."""
        url = f"sqlite:///{shutil.copy(self.empty, self.folder / 'visits.db')}"
        with opened(url) as engine, writing(engine, "visits") as connection:
            for table, found in zip((ACCEPTED, FEEDBACK), rows(seen), strict=True):
                connection.execute(insert(table), found)
        return url

    def analyses(self, seed: int, users: int, days: int) -> Iterator[Analysis]:
        """What the report says every second day, the last time when everybody counts."""
        url, epochs = self.filled(visits(seed, users, days)), [(0.0, self.experiment.weights)]
        window = self.experiment.attribution_seconds
        for day in range(2, days + 2, 2):
            everyone = users_of(url, self.experiment, epochs, day * DAY)
            yield analyse(self.experiment, *by_closing(everyone, window, day * DAY))

    def decides(self, seed: int, users: int, days: int) -> bool:
        """Whether any look at equal variants has a verdict."""
        return any(look.verdict != "inconclusive" for look in self.analyses(seed, users, days))
