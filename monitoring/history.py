"""The runs that are kept: their summaries read back, old ones removed, and one page that shows them all over time."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from components.artifact import write_text
from monitoring import charts
from monitoring.drift import SIZE, ColumnTest, Drift, Severity, forget, named
from monitoring.severity import Past

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Run:
    """One kept report: its folder's name, its window and drifts, and what the index says of it."""

    folder: str
    past: Past
    severity: Severity
    requests: int
    simulated: int


@dataclass(frozen=True)
class Trend:
    """A column over the runs, oldest first: a chart of its distance, and its newest verdict."""

    column: str
    words: str
    chart: Markup


def load(reports: Path) -> list[Run]:
    """Every run whose summary can be read, newest window first; one of an older form or cut short is no history."""
    runs = [run for path in reports.glob("*/report.json") if (run := _run(path)) is not None]
    return sorted(runs, key=lambda run: run.past.until, reverse=True)


def _run(path: Path) -> Run | None:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        drifts = tuple(Drift(**d | {"tests": tuple(ColumnTest(**t) for t in d["tests"])}) for d in summary["drift"])
        past = Past(float(summary["since"]), float(summary["until"]), drifts)
        return Run(path.parent.name, past, summary["severity"], summary["requests"], summary["simulated"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(reports: Path, runs: Sequence[Run]) -> None:
    """Remove these runs' reports, with their snapshots in Evidently's workspace."""
    snapshots = [drift.snapshot for run in runs for drift in run.past.drifts if drift.snapshot]
    if snapshots:
        forget(reports / "evidently", snapshots)
    for run in runs:
        shutil.rmtree(reports / run.folder)


def write_index(reports: Path, persistence: int) -> Path:
    """Write `index.html`: the runs with their severity, and each column's distance from its reference over time."""
    runs = load(reports)
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["named"] = named
    environment.filters["clock"] = lambda epoch: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(epoch))
    page = environment.get_template("index.html").render(
        runs=runs, things=trends(list(reversed(runs))), persistence=persistence, size=SIZE
    )
    write_text(reports / "index.html", page)
    return reports / "index.html"


def trends(runs: Sequence[Run]) -> dict[str, list[Trend]]:
    """By thing, the columns it has had in `runs` (oldest first), each with its chart."""
    names = dict.fromkeys(drift.name for run in reversed(runs) for drift in run.past.drifts)
    return {name: _trends(runs, name) for name in names}


def _trends(runs: Sequence[Run], name: str) -> list[Trend]:
    found: list[dict[str, ColumnTest]] = [
        {test.column: test for drift in run.past.drifts if drift.name == name for test in drift.tests} for run in runs
    ]
    columns = dict.fromkeys(column for tests in reversed(found) for column in tests)
    starts = [run.past.until for run in runs]
    return [_trend(column, starts, [tests.get(column) for tests in found], name) for column in columns]


def _trend(column: str, starts: Sequence[float], tests: Sequence[Any], name: str) -> Trend:
    sizes = [test.size if test and test.checked else None for test in tests]
    moved = [bool(test and test.moved) for test in tests]
    newest = tests[-1].words if tests[-1] else "not in the newest run"
    return Trend(column, newest, charts.trend(starts, sizes, moved, SIZE, f"{name}, {column}"))
