from __future__ import annotations

from dataclasses import replace

from monitoring.drift import ColumnTest, Drift, Severity
from monitoring.severity import Past, grade, worst

MOVED = ColumnTest("words", True, True, "moved")
DRIFT = Drift("prompts", "the training data", Severity.WATCH, "words moved (1 of 1 columns).", 90, 90, (MOVED,))
QUIET = replace(DRIFT, severity=Severity.NONE, tests=(ColumnTest("words", True, False, "the same"),))
FEW = replace(
    DRIFT, severity=Severity.NOT_ENOUGH_DATA, tests=(ColumnTest("words", False, False, "the window has 3 values"),)
)


def past(*drifts: Drift, hours: int = 1) -> list[Past]:
    """Windows of an hour each, newest first, the newest ending at time 0."""
    return [Past(-3600.0 * (i + hours), -3600.0 * i, (drift,)) for i, drift in enumerate(drifts)]


def graded(history: list[Past], since: float = 0.0) -> Drift:
    return grade([DRIFT], history, since, 3)[0]


def test_a_drift_is_watched_until_it_lasts() -> None:
    once, twice, thrice = (graded(past(*[DRIFT] * count)) for count in (0, 1, 2))
    assert [once.severity, twice.severity, thrice.severity] == ["watch", "watch", "act"]
    assert once.words.endswith("In 1 window in a row; 3 are needed to act.")
    assert thrice.words.endswith("In 3 windows in a row.")
    assert thrice.tests[0].windows == 3


def test_a_quiet_window_ends_the_row_and_one_without_data_does_not() -> None:
    assert graded(past(DRIFT, QUIET, DRIFT)).tests[0].windows == 2
    assert graded(past(DRIFT, FEW, DRIFT)).severity == "act"


def test_another_column_or_another_reference_begins_anew() -> None:
    other = replace(DRIFT, tests=(replace(MOVED, column="characters"), QUIET.tests[0]))
    assert graded(past(other, other)).tests[0].windows == 1
    assert graded(past(*[replace(DRIFT, against="other data")] * 2)).tests[0].windows == 1


def test_windows_that_overlap_are_one_piece_of_evidence() -> None:
    assert graded(past(DRIFT, DRIFT, DRIFT), since=-1800.0).tests[0].windows == 3
    assert graded(past(DRIFT, DRIFT, DRIFT, hours=4)).tests[0].windows == 2


def test_the_worst_severity_is_the_run_s() -> None:
    assert worst([QUIET, FEW, DRIFT]) == "watch"
    assert worst([QUIET, FEW]) == "not enough data"
    assert worst([QUIET]) == "none"
    assert worst([]) == "not enough data"


def test_a_column_under_suspicion_has_moved_again_if_it_moved_before() -> None:
    suspect = replace(DRIFT, severity=Severity.NONE, tests=(ColumnTest("words", True, False, "could be chance", True),))
    assert grade([suspect], [], 0.0, 3)[0] == suspect
    again = grade([suspect], past(DRIFT, DRIFT), 0.0, 3)[0]
    assert (again.severity, again.tests[0].words, again.tests[0].windows) == ("act", "still moved", 3)
    assert again.words.startswith("words moved (1 of 1 column).")
