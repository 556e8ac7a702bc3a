from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from monitoring.simulated import AudienceRun, SimulatedPicture, audience_folder, read_runs, write_run

RUN = AudienceRun(7, 2, 100.0, 160.0, 0.0, ["a", "b"], [], 0, 1, 0, [SimulatedPicture("p.png", "a fox", "b")])


def test_a_run_is_found_by_the_window_it_overlaps(tmp_path: Path) -> None:
    folder = audience_folder(str(tmp_path / "reports"))
    later = replace(RUN, started=300.0, ended=310.0)
    write_run(folder, RUN)
    write_run(folder, later)
    assert read_runs(folder, 0, 1000) == [RUN, later]
    assert read_runs(folder, 150, 200) == [RUN]
    assert read_runs(folder, 161, 300) == []
    assert read_runs(tmp_path / "nowhere", 0, 1000) == []
