"""Whether acknowledged events survive `kill -9`: a writer process that prints each id once it is stored, and its end.

Run as a module it is the writer: `python -m tests.bench.crash <url> <name> <writers>`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass

from components.events.database import DatabaseError, reading
from components.events.schema import Accepted
from components.events.store import EventStore
from tests.components.events.examples import read


@dataclass(frozen=True)
class Crash:
    """Events that a killed writer was told are stored, and those of them that are not; rows that are not as written."""

    acknowledged: int
    lost: int
    damaged: int


def sample(name: str, index: int) -> Accepted:
    """Row number `index` of a writer: all of it follows from the two, so that a reader can tell it is whole."""
    return Accepted(
        request_id=f"{name}-{index}",
        time=float(index),
        user_key=f"{index:064d}",
        line="text",
        deployment="text-1",
        model="atelier-text",
    )


def kill_writer(url: str, name: str, seconds: float, writers: int = 16) -> Crash:
    """Let a writer process append until it is killed, `seconds` after its first acknowledged event; then look."""
    command = [sys.executable, "-m", "tests.bench.crash", url, name, str(writers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            writer.wait(seconds)
            raise DatabaseError(f"the writer {name} ended by itself with {writer.returncode}; its output is above")
        writer.kill()
        # What it managed to print before it died was acknowledged; a torn last line is no id.
        lines = [first, *writer.stdout]
    acknowledged = {line.strip() for line in lines if line.endswith("\n")}
    stored = {row["request_id"]: row for row in read(url, "accepted") if row["request_id"].startswith(f"{name}-")}
    wrong = sum(row != sample(name, int(row["time"])).model_dump() for row in stored.values())
    return Crash(len(acknowledged), len(acknowledged - stored.keys()), wrong + _corrupt(url))


def _corrupt(url: str) -> int:
    """1 where SQLite finds its own file damaged; PostgreSQL's server was not killed."""
    with reading(url) as connection:
        if connection.dialect.name != "sqlite":
            return 0
        return int(connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() != "ok")


async def write(url: str, name: str, writers: int) -> None:
    """Append without end, `writers` at a time, printing each id once it is acknowledged."""
    store = await EventStore.open(url)

    async def writer(first: int) -> None:
        index = first
        while True:
            event = sample(name, index)
            await store.append(event)
            print(event.request_id, flush=True)
            index += writers

    await asyncio.gather(*(writer(first) for first in range(writers)))


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
