"""Recorded deployments, a champion to begin with, and what holds of every history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from components.config import Line
from components.events.database import opened
from components.events.ledger import Note
from components.events.read import record_deployment
from components.releases import store
from components.releases.leases import held
from components.releases.machine import State
from components.releases.schema import Move, Release
from tests.components.events.examples import DEPLOYMENT

NOTE = Note("ada", "it is better", {"kid": 0.01})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database in which text-a and text-b are recorded."""
    url = f"sqlite:///{tmp_path / 'events.db'}"
    record(url, "text-a", "text-b")
    with opened(url) as engine:
        yield engine


def record(url: str, *deployments: str, line: Line = "text") -> None:
    for deployment in deployments:
        record_deployment(url, DEPLOYMENT.model_copy(update={"deployment": deployment, "line": line}))


def release_directly(engine: Engine, deployment: str, line: Line = "text") -> Release:
    """Register, validate and make champion."""
    with held(engine, line, "ada", 30) as lease:
        made = store.register(engine, deployment, NOTE, lease.token)
        made = store.move(engine, made.release, made.version, State.VALIDATED, NOTE, lease.token)
        return store.move(engine, made.release, made.version, State.CHAMPION, NOTE, lease.token, direct=True)


def check(releases: list[Release], moves: list[Move]) -> None:
    """One champion, and of every release an unbroken chain of moves that ends where it stands."""
    assert sum(release.state is State.CHAMPION for release in releases) == 1
    chains: dict[str, list[Move]] = defaultdict(list)
    for move in moves:
        chains[move.release].append(move)
    assert chains.keys() == {release.release for release in releases}
    for release in releases:
        chain = chains[release.release]
        assert [move.version for move in chain] == list(range(1, release.version + 1))
        assert [move.source for move in chain] == [None, *(move.target for move in chain[:-1])]
        assert chain[-1].target is release.state
