"""What an acknowledged event costs, and whether it is kept: `make bench NAME=events`.

Prints tables and writes `metrics/online/events.json`. Rows acknowledged per second by the store's fsynced group commit,
against the same rows each in a transaction of its own, in turns on the same database; then a writer process killed with
`kill -9` at random moments. On SQLite, and on a throwaway PostgreSQL where its server is installed. A row of its own is
written as well as each database can: on SQLite by one thread (it has one writer, others would only wait), on PostgreSQL
by as many connections as the pool gives.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Engine

from components.artifact import canonical, write_text
from components.events.database import connect
from components.events.schema import Accepted
from components.events.store import EventStore, commit
from components.paths import STATE
from components.stage import run
from tests.bench import throwaway
from tests.bench.crash import kill_writer, sample
from tests.bench.timing import before_work, paired_ratio

OUT = Path("metrics/online/events.json")
WRITERS = (1, 8, 64)
ROWS = 320  # of one measurement; at least 5 for each writer
WARM_UP = 1000  # rows
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


async def throughput(url: str, rounds: int, name: Callable[[], str]) -> dict[str, dict[str, Any]]:
    """For each number of writers: medians of rows/s grouped and single, and their ratio in paired rounds."""
    store, engine = await EventStore.open(url), connect(url)
    table = {}
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
                pairs.append((together, alone))
            both = dict(zip(("grouped", "single"), zip(*pairs, strict=True), strict=True))
            medians = {kind: statistics.median(rates) for kind, rates in both.items()}
            table[f"writers_{writers}"] = medians | {"ratio": asdict(paired_ratio(both["grouped"], both["single"]))}
    finally:
        await store.close()
        engine.dispose()
    return table


def crashes(url: str, kills: int) -> dict[str, int]:
    """What `kills` ends of a writer process left."""
    moments = random.Random(SEED)
    seen = [kill_writer(url, f"killed{i}", moments.uniform(0, LONGEST)) for i in range(kills)]
    return {"kills": kills} | {name: sum(getattr(crash, name) for crash in seen) for name in vars(seen[0])}


def measure(database: str, url: str, rounds: int, kills: int) -> dict[str, Any]:
    """One database's figures, printed as they are made."""
    numbers = iter(range(10**9))
    print(f"{database}, rows/s acknowledged (medians of {rounds} rounds)")
    print("writers   grouped   one each   ratio")
    rates = asyncio.run(throughput(url, rounds, lambda: f"bench{next(numbers)}"))
    for writers, row in zip(WRITERS, rates.values(), strict=True):
        print(f"{writers:7}  {row['grouped']:8,.0f}  {row['single']:9,.0f}  {row['ratio']['ratio']:5.1f}x", flush=True)
    left = crashes(url, kills)
    words = "{kills} x kill -9: {acknowledged:,} events acknowledged, {lost} lost, {damaged} rows damaged"
    print(words.format(**left), flush=True)
    return {"rounds": rounds, "crashes": left, **rates}


def main(
    rounds: Annotated[int, typer.Option(min=6, help="Paired rounds of each number of writers.")] = 10,
    kills: Annotated[int, typer.Option(min=1, help="Times that a writer process is killed.")] = 50,
) -> None:
    """Measure both databases, SQLite on the disk that holds this project's state, and write the figures."""
    STATE.mkdir(exist_ok=True)  # not /tmp, which may be memory: what costs here is the disk
    document: dict[str, Any] = {"machine": before_work()}
    with tempfile.TemporaryDirectory(dir=STATE) as folder:
        document["SQLite"] = measure("SQLite", f"sqlite:///{folder}/events.db", rounds, kills)
    found = throwaway.binaries()
    if found is None:
        print("PostgreSQL: not measured, its server binaries (initdb, pg_ctl) are not installed")
    else:
        with throwaway.postgresql(found) as url:
            document["PostgreSQL"] = measure("PostgreSQL", url, rounds, kills)
    write_text(OUT, canonical(document))


if __name__ == "__main__":
    run(main)
