"""What the running stack takes while nobody uses it: `make bench NAME=idle` prints CPU and memory of each program.

CPU is read from the kernel's counts at the start and the end, with those of processes that came and went between.
Memory is the proportional set size, where a page that processes share is divided among them. Housekeeping is everything
but the model engines, which hold their models.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from components.artifact import write_text
from components.config import load
from components.lines import PROGRAMS
from components.paths import METRICS
from components.stage import StageError, run
from flows import stack
from flows.environment import ROOT

ENGINES = frozenset(PROGRAMS)
RESULT = ROOT / METRICS / "online/idle.json"
INTERVAL = 10.0  # seconds between looks at memory


@dataclass(frozen=True)
class Usage:
    """A program with all its processes: CPU seconds so far, or share of one core; memory in bytes."""

    cpu: float
    memory: float
    processes: float


def tree(pid: int) -> Usage:
    """Seconds, bytes and number of a process and its descendants, the CPU of those that have ended included."""
    total = Usage(0.0, 0.0, 0.0)
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times, memory = process.cpu_times(), process.memory_full_info().pss
                seconds = times.user + times.system + times.children_user + times.children_system
                total = Usage(total.cpu + seconds, total.memory + memory, total.processes + 1)
    return total


def programs() -> dict[str, int]:
    """The process id of each program that runs, and of supervisor itself; raises `StageError` where nothing does."""
    supervisor = stack.supervisor_pid()
    if supervisor is None:
        raise StageError("nothing is running; `make up` first")
    rows = [line.split() for line in stack.control("status").splitlines()]
    return {row[0]: int(row[3].rstrip(",")) for row in rows if row[1] == "RUNNING"}


def measure(pids: Mapping[str, int], seconds: float) -> dict[str, Usage]:
    """Each program's share of one core over so many seconds, and its mean memory and processes meanwhile."""
    started, before = time.monotonic(), {program: tree(pid) for program, pid in pids.items()}
    looks = [before]
    while (left := started + seconds - time.monotonic()) > 0:
        time.sleep(min(INTERVAL, left))
        looks.append({program: tree(pid) for program, pid in pids.items()})
    elapsed = time.monotonic() - started
    return {
        program: Usage(
            (looks[-1][program].cpu - before[program].cpu) / elapsed,
            fmean(look[program].memory for look in looks),
            fmean(look[program].processes for look in looks),
        )
        for program in pids
    }


def total(usages: Mapping[str, Usage]) -> Usage:
    values = usages.values()
    return Usage(sum(u.cpu for u in values), sum(u.memory for u in values), sum(u.processes for u in values))


def main(seconds: Annotated[float, typer.Option(min=1, help="how long to look")] = 300.0) -> None:
    """Print what each program takes, and keep the figures in metrics/online/idle.json."""
    load()
    usages = measure(programs(), seconds)
    housekeeping = total({program: usage for program, usage in usages.items() if program not in ENGINES})
    cores = psutil.cpu_count() or 1
    table = Table("program", "% of all cores", "MB", "processes", title=f"idle for {seconds:.0f} s, {cores} cores")
    for program, usage in {**usages, "all but the engines": housekeeping}.items():
        table.add_row(program, f"{usage.cpu / cores:.2%}", f"{usage.memory / 1e6:.0f}", f"{usage.processes:.1f}")
    Console().print(table)
    document = {
        "seconds": seconds,
        "cores": cores,
        "load": psutil.getloadavg()[0],
        "housekeeping": asdict(housekeeping),
        "programs": {program: asdict(usage) for program, usage in usages.items()},
    }
    write_text(RESULT, json.dumps(document, indent=1))


if __name__ == "__main__":
    run(main)
