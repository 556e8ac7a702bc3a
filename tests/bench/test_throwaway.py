from __future__ import annotations

import psycopg
import pytest

from tests.bench.throwaway import binaries, postgresql


def test_nothing_is_left_of_the_server() -> None:
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server binaries (initdb, pg_ctl) are not installed")
    with postgresql(found) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
