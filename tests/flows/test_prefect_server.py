"""Prefect's database on SQLite takes writers that come at once, one after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration

from flows import prefect_server

WRITERS = 8


async def write_at_once(path: Path) -> int:
    """Transactions that read, let others go first, and write, as Prefect's services and routes do; rows written."""
    database = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{path}")
    engine = await database.engine()
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE runs (id INTEGER)"))

    async def write(number: int) -> None:
        async with await database.session(engine) as session, database.begin_transaction(session):
            count = (await session.execute(sa.text("SELECT count(*) FROM runs"))).scalar_one()
            await asyncio.sleep(0.01)
            await session.execute(sa.text("INSERT INTO runs VALUES (:count)"), {"count": count})

    await asyncio.gather(*map(write, range(WRITERS)))
    async with engine.connect() as connection:
        rows = (await connection.execute(sa.text("SELECT count(DISTINCT id) FROM runs"))).scalar_one()
    await engine.dispose()
    return int(rows)


async def test_37_writers_at_once_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", prefect_server.begin_transaction)
    assert await asyncio.wait_for(write_at_once(tmp_path / "prefect.db"), 20) == WRITERS


async def test_37_a_transaction_within_another_one_does_not_wait_for_it() -> None:
    writer = prefect_server.Writer()
    async with asyncio.timeout(5), writer.turn(), writer.turn():
        pass
    async with asyncio.timeout(5), writer.turn():
        pass


async def test_a_writer_that_fails_leaves_the_turn_to_the_next() -> None:
    writer = prefect_server.Writer()
    with pytest.raises(RuntimeError):
        async with writer.turn():
            raise RuntimeError
    async with asyncio.timeout(5), writer.turn():
        pass
