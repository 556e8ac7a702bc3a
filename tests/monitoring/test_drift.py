from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.drift import Comparison, Drift, compare, forget, keep


def comparison(current: dict[str, list[float]], reference: dict[str, list[float]] | None = None) -> Comparison:
    before = reference if reference is not None else {name: normal(0, 400) for name in current}
    return Comparison("prompts", "the training data", pd.DataFrame(before), pd.DataFrame(current))


def normal(seed: int, rows: int, shift: float = 0.0) -> list[float]:
    return list(np.random.default_rng(seed).normal(shift, 1, rows))


def check(current: dict[str, list[float]], reference: dict[str, list[float]] | None = None) -> Drift:
    (drift,) = compare([comparison(current, reference)], 50)
    return drift


def test_the_same_distribution_is_no_drift() -> None:
    assert [check({"words": normal(seed, 100)}).severity for seed in (1, 2, 3)] == ["none"] * 3


def test_what_moved_is_named_and_what_did_not_is_not() -> None:
    drift = check({"words": normal(1, 200, shift=1.0), "characters": normal(2, 200)})
    assert drift.severity == "watch"
    assert [test.column for test in drift.moved] == ["words"]
    assert drift.words == "words moved (1 of 2 columns)."
    assert drift.tests[0].size == pytest.approx(1.0, abs=0.2)


def test_p_values_are_corrected_over_all_columns_of_all_things() -> None:
    weak = comparison({"words": normal(1, 120, shift=0.25)})
    quiet = Comparison("more", "x", *[pd.DataFrame({f"c{i}": normal(s + i, 120) for i in range(30)}) for s in (9, 99)])
    alone, among = compare([weak], 50)[0].tests[0], compare([weak, quiet], 50)[0].tests[0]
    assert alone.moved
    assert not among.moved
    assert among.words == "could be chance"
    assert (among.score or 0) == pytest.approx(31 * (alone.score or 0))


def test_many_rows_do_not_make_a_trifle_a_drift() -> None:
    (test,) = check({"words": normal(1, 40_000, shift=0.05)}, {"words": normal(0, 40_000)}).tests
    assert test.words == "too small to matter"
    assert not test.moved


def test_shares_of_yes_and_no_are_compared_by_their_means() -> None:
    yes, fewer = [1.0] * 240 + [0.0] * 160, [1.0] * 90 + [0.0] * 110
    (test,) = check({"liked": fewer}, {"liked": yes}).tests
    assert (test.method, test.moved) == ("t_test", True)
    assert (test.reference, test.current) == (0.6, 0.45)


def test_too_few_rows_are_never_no_drift() -> None:
    drift = check({"words": normal(1, 49)})
    assert drift.severity == "not enough data"
    assert drift.words == "Not enough data: the window has 49 values and 50 are needed."
    empty = check({"words": normal(1, 80)}, {"words": []})
    assert empty.words == "Not enough data: the training data has 0 values and 50 are needed."


def test_missing_constant_and_unknown_columns_are_answered_in_words() -> None:
    gaps = [*normal(1, 40), *[float("nan")] * 60]
    current = {"words": normal(2, 100), "gaps": gaps, "flat": [3.0] * 100, "stuck": [3.0] * 100, "new": normal(3, 100)}
    reference = {"words": normal(0, 400), "gaps": normal(0, 400), "flat": [3.0] * 400, "stuck": normal(0, 400)}
    drift = check(current, reference)
    words = {test.column: test.words for test in drift.tests}
    assert words["gaps"] == "the window has 40 values and 50 are needed"
    assert words["flat"] == "the same single value on both sides"
    assert words["stuck"] == "moved"
    assert words["new"] == "the training data has no such column"
    assert drift.words.endswith("Not enough data for gaps, new.")


def test_evidently_s_snapshot_opens_again_and_is_forgotten(tmp_path: Path) -> None:
    from evidently.ui.workspace import Workspace

    moved, quiet = comparison({"words": normal(1, 200, shift=1.0)}), comparison({"words": normal(1, 200)})
    drifts = compare([moved, quiet], 50)
    kept = [keep(c, d, tmp_path / "run", tmp_path / "ui", 1000.0) for c, d in zip([moved, quiet], drifts, strict=True)]
    assert [drift.detail for drift in kept] == ["drift-prompts.html", ""]
    assert (tmp_path / "run" / "drift-prompts.html").stat().st_size > 100_000  # with Evidently's own script inside
    store = Workspace(str(tmp_path / "ui"))
    (project,) = store.list_projects()
    assert {str(run) for run in store.list_runs(project.id)} == {drift.snapshot for drift in kept}
    assert store.get_run(project.id, kept[0].snapshot).timestamp.timestamp() == 1000.0
    forget(tmp_path / "ui", [kept[0].snapshot, "gone already"])
    assert [str(run) for run in Workspace(str(tmp_path / "ui")).list_runs(project.id)] == [kept[1].snapshot]


def test_what_was_not_checked_is_not_drawn(tmp_path: Path) -> None:
    few = comparison({"words": normal(1, 5)})
    (drift,) = compare([few], 50)
    assert keep(few, drift, tmp_path, tmp_path / "ui", 0.0) == drift
    assert list(tmp_path.iterdir()) == []


def test_17_fewer_unknown_words_than_in_the_reference_are_no_drift_and_more_are() -> None:
    few, many = [0.1, 0.2] * 100, [0.5, 0.6] * 100
    assert check({"unknown word share": few}, {"unknown word share": many}).severity == "none"
    assert check({"unknown word share": many}, {"unknown word share": few}).severity == "watch"
    assert check({"words": few}, {"words": many}).severity == "watch"
