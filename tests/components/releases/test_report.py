from __future__ import annotations

from components.releases.machine import Kind, State
from components.releases.report import describe, summary
from components.releases.schema import Move, Release

CHAMPION = Release("text-1.1", "text", "text-1", State.CHAMPION, 3, 0.0)
LAST = Move("text-1.1", 3, State.VALIDATED, State.CHAMPION, Kind.DIRECT, 0.0, "ada", "one slot", {}, 1)


def test_a_line_of_releases_says_who_serves_since_when_and_why() -> None:
    describe = summary("text", [CHAMPION], [LAST], "text-1")
    assert describe == (
        "text: champion text-1.1 (champion since 1970-01-01 00:00:00 UTC); candidate none; last move "
        "1970-01-01 00:00:00 UTC text-1.1 validated → champion (direct) by ada: one slot"
    )
    assert "no release recorded yet" in summary("text", [], [], None)


def test_a_machine_that_serves_something_else_is_pointed_out() -> None:
    assert "THIS MACHINE SERVES text-2" in summary("text", [CHAMPION], [LAST], "text-2")


def test_a_first_move_has_no_source() -> None:
    first = Move("text-1.1", 1, None, State.REGISTERED, Kind.STEP, 0.0, "ada", "new", {}, 1)
    assert describe(first) == "1970-01-01 00:00:00 UTC text-1.1 registered (step) by ada: new"
