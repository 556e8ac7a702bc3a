"""What an acknowledged event costs, and whether it is kept: `make bench-events`.

Rows acknowledged per second by the store's fsynced group commit, against the same rows each in a transaction of its
own, in turns on the same database; then a writer process killed with `kill -9` at random moments. On SQLite, and on a
throwaway PostgreSQL where its server is installed. A row of its own is written as well as each database can: on SQLite
by one thread (it has one writer, others would only wait), on PostgreSQL by as many connections as the pool gives.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from components.events import throwaway
from components.events.crash import kill_writer, sample
from components.events.database import connect
from components.events.schema import Accepted
from components.events.store import EventStore, commit
from components.stage import run

WRITERS = (1, 8, 64)
ROWS = 320  # of one measurement; at least 5 for each writer
WARM_UP = 1000  # rows
STATE = Path(".atelier")  # not /tmp, which may be memory: what costs here is the disk
LONGEST = 0.5  # seconds between a writer's first acknowledged event and its end
SEED = 7


async def grouped(store: EventStore, rows: list[Accepted], writers: int) -> float:
    """Rows per second of `writers` that each wait for an acknowledgement before they append their next row."""

    async def write(mine: list[Accepted]) -> None:
        for row in mine:
            await store.append(row)

    began = time.perf_counter()
    await asyncio.gather(*(write(rows[first::writers]) for first in range(writers)))
    return len(rows) / (time.perf_counter() - began)


def single(engine: Engine, rows: list[Accepted], writers: int) -> float:
    """The same, each row in a transaction of its own."""
    with ThreadPoolExecutor(1 if engine.dialect.name == "sqlite" else writers) as pool:
        began = time.perf_counter()
        list(pool.map(lambda row: commit(engine, [row]), rows))
        return len(rows) / (time.perf_counter() - began)


async def throughput(url: str, rounds: int, name: Callable[[], str]) -> list[tuple[int, float, float, float]]:
    """For each number of writers: medians of rows/s grouped and single, and of their ratio within a round."""
    store, engine = await EventStore.open(url), connect(url)
    table = []
    try:
        # SQLite's log grows until its first checkpoint, and an fsync that makes a file longer costs several times more.
        await asyncio.to_thread(single, engine, [sample(name(), i) for i in range(WARM_UP)], 1)
        for writers in WRITERS:
            pairs = []
            for number in range(rounds):
                rows = {kind: [sample(name(), i) for i in range(ROWS)] for kind in ("grouped", "single")}
                # Who goes first changes from round to round.
                if number % 2:
                    alone = await asyncio.to_thread(single, engine, rows["single"], writers)
                    together = await grouped(store, rows["grouped"], writers)
                else:
                    together = await grouped(store, rows["grouped"], writers)
                    alone = await asyncio.to_thread(single, engine, rows["single"], writers)
                pairs.append((together, alone, together / alone))
            table.append((writers, *(statistics.median(column) for column in zip(*pairs, strict=True))))
    finally:
        await store.close()
        engine.dispose()
    return table


def crashes(url: str, kills: int) -> str:
    """One line on what `kills` ends of a writer process left."""
    moments = random.Random(SEED)  # noqa: S311 - reproducible moments, no secret
    seen = [kill_writer(url, f"killed{i}", moments.uniform(0, LONGEST)) for i in range(kills)]
    acknowledged, lost, damaged = (sum(getattr(crash, name) for crash in seen) for name in vars(seen[0]))
    return f"{kills} x kill -9: {acknowledged:,} events acknowledged, {lost} lost, {damaged} rows damaged"


def measure(database: str, url: str, rounds: int, kills: int) -> None:
    """Print one database's figures as they are made."""
    numbers = iter(range(10**9))
    print(f"{database}, rows/s acknowledged (medians of {rounds} rounds)")
    print("writers   grouped   one each   ratio")
    for writers, together, alone, ratio in asyncio.run(throughput(url, rounds, lambda: f"bench{next(numbers)}")):
        print(f"{writers:7}  {together:8,.0f}  {alone:9,.0f}  {ratio:5.1f}x", flush=True)
    print(crashes(url, kills), flush=True)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each number of writers.")] = 5,
    kills: Annotated[int, typer.Option(min=1, help="Times that a writer process is killed.")] = 50,
) -> None:
    """Measure both databases, SQLite on the disk that holds this project's state."""
    STATE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE) as folder:
        measure("SQLite", f"sqlite:///{folder}/events.db", rounds, kills)
    found = throwaway.binaries()
    if found is None:
        print("PostgreSQL: not measured, its server binaries (initdb, pg_ctl) are not installed")
        return
    with throwaway.postgresql(found) as url:
        measure("PostgreSQL", url, rounds, kills)


if __name__ == "__main__":
    run(main)
