"""Drift of what is served against what was trained on: the one file that knows Evidently (0.7).

Every column is tested by Kolmogorov-Smirnov, the embeddings of texts by the distance of their means against a bootstrap
of the reference. The level is divided by the number of tests, so that a quiet week does not raise an alarm by chance.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.descriptors import describe, leave_one_out, vocabulary
from monitoring.embedding import Embed

ALPHA = 0.05
REFERENCE_ROWS = 2000  # more rows make the test slower and no sharper: the current window is the small side
SEED = 7


@dataclass(frozen=True)
class Test:
    """One comparison: a p-value (drift below `threshold`), or a distance (no threshold: its own bootstrap decides)."""

    column: str
    method: str
    score: float
    threshold: float | None
    drifted: bool
    reference: float | None
    current: float | None


@dataclass(frozen=True)
class Drift:
    """Comparison of one thing (prompts, outputs, latency). `checked` is False where there was too little to compare."""

    name: str
    against: str
    checked: bool
    drifted: bool
    words: str
    rows: int
    tests: tuple[Test, ...] = ()
    share: float = 0.0
    detail: str = ""


def text_drift(
    name: str,
    reference: Sequence[str],
    current: Sequence[str],
    *,
    embed: Embed | None,
    min_rows: int,
    drift_share: float,
    detail: Path | None = None,
) -> Drift:
    """Drift of texts by their descriptors and, with `embed`, their meaning; `detail` gets Evidently's own report."""
    reference = sample(reference)
    few = too_few(name, len(reference), len(current), min_rows)
    if few:
        return few
    before = leave_one_out(reference)
    after = describe(current, vocabulary(reference))
    embeddings = None
    if embed is not None:
        embeddings = embed(reference), embed(list(current))
        before["distance from the usual"], after["distance from the usual"] = _from_centre(*embeddings)
    return compare(name, before, after, embeddings=embeddings, drift_share=drift_share, detail=detail)


def number_drift(
    name: str, reference: pd.DataFrame, current: pd.DataFrame, *, min_rows: int, drift_share: float, against: str
) -> Drift:
    """Drift of numeric columns, such as latencies."""
    few = too_few(name, len(reference), len(current), min_rows, against)
    return few or compare(name, reference, current, embeddings=None, drift_share=drift_share, against=against)


def too_few(name: str, reference: int, current: int, min_rows: int, against: str = "the training data") -> Drift | None:
    """The verdict that there is too little to compare, in words; None where both sides have `min_rows`."""
    if reference < min_rows:
        say = f"Not checked: {against} has {reference} rows and {min_rows} are needed."
    elif current < min_rows:
        say = f"Not checked: the window has {current} rows and {min_rows} are needed (`monitor.min_rows`)."
    else:
        return None
    return Drift(name, against, checked=False, drifted=False, words=say, rows=current)


def compare(
    name: str,
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    embeddings: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    drift_share: float,
    against: str = "the training data",
    detail: Path | None = None,
) -> Drift:
    """Test every column and the embeddings; drifted where the meaning is, or `drift_share` of the columns are."""
    columns = [c for c in reference.columns if pd.concat([reference[c], current[c]]).nunique() > 1]
    level = ALPHA / (len(columns) + (embeddings is not None))
    tests = _column_tests(reference, current, columns, level, detail)
    share = sum(test.drifted for test in tests) / max(len(tests), 1)
    meaning = _embedding_test(*embeddings, level) if embeddings else None
    drifted = (bool(tests) and share >= drift_share) or bool(meaning and meaning.drifted)
    tests = (meaning, *tests) if meaning else tests
    return Drift(
        name=name,
        against=against,
        checked=True,
        drifted=drifted,
        words=in_words(drifted, tests),
        rows=len(current),
        tests=tests,
        share=share,
        detail=detail.name if detail else "",
    )


def in_words(drifted: bool, tests: Sequence[Test]) -> str:
    """The verdict as a sentence that names what moved."""
    moved = [test.column for test in tests if test.drifted]
    if not moved:
        return "No drift: every test agrees with the reference."
    verdict = "Drifted" if drifted else "No drift overall, but look at it"
    return f"{verdict}: {', '.join(moved)} moved ({len(moved)} of {len(tests)} tests)."


def sample(texts: Sequence[str]) -> list[str]:
    """At most `REFERENCE_ROWS` texts, always the same ones."""
    if len(texts) <= REFERENCE_ROWS:
        return list(texts)
    chosen = np.random.default_rng(SEED).choice(len(texts), REFERENCE_ROWS, replace=False)
    return [texts[i] for i in sorted(chosen)]


def _from_centre(
    reference: NDArray[np.float32], current: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine distance of each unit vector to the reference's mean direction."""
    centre = reference.mean(axis=0)
    centre /= max(float(np.linalg.norm(centre)), 1e-12)
    return 1 - reference @ centre, 1 - current @ centre


def _column_tests(
    reference: pd.DataFrame, current: pd.DataFrame, columns: list[str], level: float, detail: Path | None
) -> tuple[Test, ...]:
    if not columns:
        return ()
    with _quiet():
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        definition = DataDefinition(numerical_columns=columns)
        snapshot = Report([ValueDrift(column=column, method="ks", threshold=level) for column in columns]).run(
            Dataset.from_pandas(current[columns], data_definition=definition),
            Dataset.from_pandas(reference[columns], data_definition=definition),
        )
        scores = {m["config"]["column"]: float(m["value"]) for m in snapshot.dict()["metrics"]}
        if detail:
            detail.parent.mkdir(parents=True, exist_ok=True)
            snapshot.save_html(str(detail))
    return tuple(
        Test(
            column=column,
            method="Kolmogorov-Smirnov p-value",
            score=scores[column],
            threshold=level,
            drifted=scores[column] < level,
            reference=float(reference[column].mean()),
            current=float(current[column].mean()),
        )
        for column in columns
    )


def _embedding_test(reference: NDArray[np.float32], current: NDArray[np.float32], level: float) -> Test:
    """Evidently's bootstrapped distance of means, called alone: its report metric would also draw a slow t-SNE."""
    with _quiet():
        from evidently.metrics.embeddings import DistanceDriftMethod

        method = DistanceDriftMethod(bootstrap=True, quantile_probability=1 - level)
        score, drifted, _ = method(pd.DataFrame(current), pd.DataFrame(reference))
    return Test("meaning (embedding)", "distance of mean embeddings", float(score), None, bool(drifted), None, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Evidently's telemetry off before it is imported, and its libraries' deprecation notes kept to themselves."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
