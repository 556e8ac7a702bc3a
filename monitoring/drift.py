"""Has what is served moved away from its reference? The one file that knows Evidently (0.7).

A column has moved where its distribution differs beyond chance (Kolmogorov-Smirnov, or Student's t for what is 0 or 1;
p-values of all columns of a run corrected together by Holm) and by enough to matter (Wasserstein distance). Both
verdicts are needed: with few rows a large distance is noise, with many rows a tiny one is beyond chance. Of unknown
words only more is a drift: users who ask for what the training data holds have fewer.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd
from statsmodels.stats.multitest import multipletests

from monitoring.columns import UNKNOWN

ALPHA = 0.01  # chance of any false "moved" in a whole run, were its rows independent
AGAIN = 0.05  # of a false "moved" in a column that moved in the window before: one column needs no correction
SIZE = 0.1  # in standard deviations of the reference: Evidently's own threshold of its Wasserstein distance
PROJECT = "Atelier drift"


class Severity(StrEnum):
    """How urgent a drift is; `monitoring.severity` tells `ACT` from `WATCH`."""

    NONE = "none"
    NOT_ENOUGH_DATA = "not enough data"
    WATCH = "watch"
    ACT = "act"


@dataclass(frozen=True)
class Comparison:
    """Rows of one thing (prompts, outputs, service) now and in the reference; `against` names the reference."""

    name: str
    against: str
    reference: pd.DataFrame
    current: pd.DataFrame


@dataclass(frozen=True)
class ColumnTest:
    """One column. `score` is the corrected p-value and `size` the distance in standard deviations, None if unchecked.

    `suspect`: it counts as moved if it had moved in the window before; `windows`: for how many windows in a row it has
    moved now. `monitoring.severity` sees to both.
    """

    column: str
    checked: bool
    moved: bool
    words: str
    suspect: bool = False
    method: str = ""
    score: float | None = None
    size: float | None = None
    reference: float | None = None
    current: float | None = None
    windows: int = 0


@dataclass(frozen=True)
class Drift:
    """The verdict on one thing. `detail` is Evidently's page beside the report, `snapshot` its id in the workspace."""

    name: str
    against: str
    severity: Severity
    words: str
    rows: int
    reference_rows: int
    tests: tuple[ColumnTest, ...] = ()
    detail: str = ""
    snapshot: str = ""

    @property
    def moved(self) -> list[ColumnTest]:
        return [test for test in self.tests if test.moved]


def compare(comparisons: Sequence[Comparison], min_rows: int) -> list[Drift]:
    """Test every column of every comparison, corrected together; severities stay below `ACT` until they are graded."""
    with _quiet():
        tests = [[_test(c, str(column), min_rows) for column in c.current.columns] for c in comparisons]
    corrected = iter(_corrected([test for group in tests for test in group]))
    verdicts = [tuple(next(corrected) for _ in group) for group in tests]
    return [_verdict(comparison, verdict) for comparison, verdict in zip(comparisons, verdicts, strict=True)]


def _verdict(comparison: Comparison, tests: tuple[ColumnTest, ...]) -> Drift:
    checked = any(test.checked for test in tests)
    moved = any(test.moved for test in tests)
    severity = Severity.WATCH if moved else Severity.NONE if checked else Severity.NOT_ENOUGH_DATA
    sizes = len(comparison.current), len(comparison.reference)
    return Drift(comparison.name, comparison.against, severity, describe(tests), *sizes, tests)


def describe(tests: Sequence[ColumnTest]) -> str:
    """The verdict as a sentence that names what moved and what could not be compared."""
    moved, checked = [t for t in tests if t.moved], [t for t in tests if t.checked]
    if not checked:
        return f"Not enough data: {tests[0].words}." if tests else "Not enough data: there is no column to compare."
    count = f"{len(checked)} column{'s' if len(checked) > 1 else ''}"
    words = f"{named(moved)} moved ({len(moved)} of {count})." if moved else f"No drift in {count}."
    missing = [test.column for test in tests if not test.checked]
    return words + (f" Not enough data for {', '.join(missing)}." if missing else "")


def named(moved: Sequence[ColumnTest]) -> str:
    """The columns that moved furthest, and how many more did."""
    columns = [test.column for test in sorted(moved, key=lambda test: -(test.size or 0.0))]
    return ", ".join(columns[:3]) + (f" and {len(columns) - 3} more" if len(columns) > 3 else "")


def _test(comparison: Comparison, column: str, min_rows: int) -> ColumnTest:
    """The test of one column, its p-value not corrected yet."""
    if column not in comparison.reference:
        return ColumnTest(column, False, False, f"{comparison.against} has no such column")
    reference, current = comparison.reference[column].dropna(), comparison.current[column].dropna()
    few = {comparison.against: len(reference), "the window": len(current)}
    short = [f"{where} has {rows} values and {min_rows} are needed" for where, rows in few.items() if rows < min_rows]
    if short:
        return ColumnTest(column, False, False, "; ".join(short))
    means: dict[str, Any] = {"reference": float(reference.mean()), "current": float(current.mean())}
    if column == UNKNOWN and means["current"] <= means["reference"]:
        return ColumnTest(column, True, False, "no more than in the reference", False, "mean", 1.0, 0.0, **means)
    if pd.concat([reference, current]).nunique() == 1:
        return ColumnTest(
            column, True, False, "the same single value on both sides", False, "constant", 1.0, 0.0, **means
        )
    binary = bool(reference.isin((0, 1)).all() and current.isin((0, 1)).all())
    method = "t_test" if binary else "ks"
    score, size = _stattest(method, reference, current), _stattest("wasserstein", reference, current)
    return ColumnTest(column, True, False, "", False, method, score, size, **means)


def _stattest(method: str, reference: pd.Series, current: pd.Series) -> float:
    """Evidently's own test function, without the drawing that its metric would do each time."""
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    test = get_stattest(reference, current, ColumnType.Numerical, method)
    return float(test(reference, current, ColumnType.Numerical, None).drift_score)


def _corrected(tests: Sequence[ColumnTest]) -> list[ColumnTest]:
    """`tests` with p-values corrected by Holm over all that were checked, and whether each column moved."""
    scores = [test.score for test in tests if test.score is not None]
    if not scores:
        return list(tests)
    adjusted = iter(multipletests(scores, alpha=ALPHA, method="holm")[1])
    return [test if test.score is None else _decided(test, float(next(adjusted))) for test in tests]


def _decided(test: ColumnTest, corrected: float) -> ColumnTest:
    beyond, large = corrected < ALPHA, (test.size or 0.0) >= SIZE
    words = test.words or (
        "moved" if beyond and large else "too small to matter" if beyond else "could be chance" if large else "the same"
    )
    suspect = large and test.score is not None and test.score < AGAIN
    return replace(test, score=corrected, moved=beyond and large, suspect=suspect, words=words)


def keep(comparison: Comparison, drift: Drift, folder: Path, workspace: Path, time: float) -> Drift:
    """Save Evidently's snapshot of what was checked in `workspace`, and its page in `folder` where something moved."""
    columns = [test.column for test in drift.tests if test.checked]
    if not columns:
        return drift
    with _quiet():
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        definition = DataDefinition(numerical_columns=columns)
        # Evidently draws its own verdict beside each distribution: by distance, as it cannot know of the correction.
        report = Report([ValueDrift(column=column, method="wasserstein", threshold=SIZE) for column in columns])
        snapshot = report.run(
            Dataset.from_pandas(comparison.current[columns], data_definition=definition),
            Dataset.from_pandas(comparison.reference[columns], data_definition=definition),
            timestamp=datetime.fromtimestamp(time, UTC),
            tags=[drift.name, drift.severity],
            name=drift.name,
        )
        detail = f"drift-{drift.name.replace(' ', '-')}.html" if drift.moved else ""
        if detail:
            folder.mkdir(parents=True, exist_ok=True)
            snapshot.save_html(str(folder / detail))
        store, project = _project(workspace)
        return replace(drift, detail=detail, snapshot=str(store.add_run(project, snapshot).id))


def forget(workspace: Path, snapshots: Sequence[str]) -> None:
    """Delete these snapshots; one that is gone already is no error."""
    store, project = _project(workspace)
    known = {str(identifier) for identifier in store.list_runs(project)}
    for identifier in known & set(snapshots):
        store.delete_run(project, identifier)


def _project(workspace: Path) -> tuple[Any, Any]:
    """Evidently's workspace folder (`evidently ui --workspace <folder>` opens it) and the id of our project there."""
    with _quiet():
        from evidently.ui.workspace import Workspace

        store = Workspace.create(str(workspace))
        projects = store.search_project(PROJECT) or [store.create_project(PROJECT)]
        return store, projects[0].id


@contextmanager
def _quiet() -> Iterator[None]:
    """Evidently's telemetry off before it is imported, and its libraries' deprecation notes kept to themselves."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
