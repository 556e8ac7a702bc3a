"""The runs that are kept: their summaries read back, old ones removed, and one page that shows them all over time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from components.experiments.comparison import Verdict
from monitoring import charts, page
from monitoring.advice import Advice, Urgency
from monitoring.drift import SIZE, ColumnTest, Drift, Severity, forget
from monitoring.severity import Past


@dataclass(frozen=True)
class Look:
    """What one report said of one experiment: (low, high) bound treatment minus control; `users` of all variants."""

    name: str
    control: str
    treatment: str
    users: int
    difference: float
    interval: tuple[float, float]
    verdict: Verdict
    words: str
    reason: str
    srm: bool


@dataclass(frozen=True)
class Run:
    """One kept report: its folder's name, its window and drifts, and what other pages say of it."""

    folder: str
    past: Past
    severity: Severity
    requests: int
    simulated: int
    looks: tuple[Look, ...]
    advice: tuple[Advice, ...]


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
        drifts = tuple(_drift(row) for row in summary["drift"])
        past = Past(float(summary["since"]), float(summary["until"]), drifts)
        advice = tuple(Advice(**a | {"urgency": Urgency(a["urgency"])}) for a in summary["advice"])
        counts = summary["requests"], summary["simulated"]
        looks = tuple(_look(report["analysis"]) for report in summary["experiments"])
        return Run(path.parent.name, past, Severity(summary["severity"]), *counts, looks, advice)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _drift(row: dict[str, Any]) -> Drift:
    tests = tuple(ColumnTest(**test) for test in row["tests"])
    return Drift(**row | {"severity": Severity(row["severity"]), "tests": tests})


def _look(analysis: dict[str, Any]) -> Look:
    low, high = map(float, analysis["interval"])
    texts = {name: str(analysis[name]) for name in ("control", "treatment", "reason")}
    words = analysis.get("words")  # missing in reports whose verdict was in words: kept, for their drifts
    return Look(
        name=analysis["experiment"],
        users=sum(arm["users"] for arm in analysis["arms"]),
        difference=float(analysis["difference"]),
        interval=(low, high),
        verdict=Verdict.INCONCLUSIVE if words is None else Verdict(analysis["verdict"]),
        words=str(analysis["verdict"]) if words is None else str(words),
        srm=bool(analysis["srm"]),
        **texts,
    )


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
    return page.write(reports / "index.html", lambda: index(runs, persistence))


def index(runs: Sequence[Run], persistence: int) -> str:
    """The page of these runs, newest first."""
    return page.render("index.html", runs=runs, things=trends(runs[::-1]), persistence=persistence, size=SIZE)


def strips(runs: Sequence[Run]) -> dict[str, list[tuple[Run, Drift | None]]]:
    """By thing, what each run said of it, in the order of the runs; None of a run that did not see it."""
    names = dict.fromkeys(drift.name for run in reversed(runs) for drift in run.past.drifts)
    return {
        name: [(run, next((drift for drift in run.past.drifts if drift.name == name), None)) for run in runs]
        for name in names
    }


def trends(runs: Sequence[Run]) -> dict[str, list[Trend]]:
    """By thing, the columns it has had in `runs` (oldest first), each with its chart."""
    starts = [run.past.until for run in runs]
    return {name: _trends(name, starts, [drift for _, drift in strip]) for name, strip in strips(runs).items()}


def _trends(name: str, starts: Sequence[float], drifts: Sequence[Drift | None]) -> list[Trend]:
    tests_by_run = [{test.column: test for test in drift.tests} if drift else {} for drift in drifts]
    columns = dict.fromkeys(column for tests in reversed(tests_by_run) for column in tests)
    return [_trend(column, starts, [tests.get(column) for tests in tests_by_run], name) for column in columns]


def _trend(column: str, starts: Sequence[float], tests: Sequence[ColumnTest | None], name: str) -> Trend:
    sizes = [test.size if test and test.checked else None for test in tests]
    moved = [bool(test and test.moved) for test in tests]
    newest = tests[-1].words if tests[-1] else "not in the newest run"
    return Trend(column, newest, charts.trend(starts, sizes, moved, SIZE, f"{name}, {column}"))
