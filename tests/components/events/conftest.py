"""The databases events must work on: a SQLite file, and a PostgreSQL server of this machine's own binaries."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.throwaway import binaries, postgresql


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a fresh server's maintenance database, on a free loopback port; skips where there is no PostgreSQL."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server binaries (initdb, pg_ctl) are not installed")
    with postgresql(found) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty events database, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'events.db'}"
        return
    import psycopg

    server = request.getfixturevalue("postgresql_server")
    name = f"events_{os.urandom(4).hex()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    yield server.rpartition("/")[0] + f"/{name}"
