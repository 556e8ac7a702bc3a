from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from monitoring.drift import ColumnTest, Drift, Severity
from monitoring.history import load, remove, trends, write_index

EXPERIMENT = {
    "experiment": "colours",
    "control": "control",
    "treatment": "treatment",
    "arms": [{"users": 3}, {"users": 4}],
    "difference": 0.1,
    "interval": [-0.1, 0.3],
    "verdict": "inconclusive",
    "words": "inconclusive",
    "reason": "The interval contains 0.",
    "srm": False,
}


def drift(size: float | None, moved: bool = False) -> Drift:
    column = ColumnTest("<words>", size is not None, moved, "moved" if moved else "few", size=size)
    return Drift("text prompts", "the training data", Severity.WATCH if moved else Severity.NONE, "", 90, 90, (column,))


def write(reports: Path, name: str, until: float, *drifts: Drift, **changes: Any) -> None:
    summary = {"since": until - 60, "until": until, "severity": "watch", "requests": 90, "simulated": 0}
    summary |= {
        "drift": [asdict(d) for d in drifts],
        "experiments": [{"analysis": EXPERIMENT}],
        "advice": [],
        "more": "is ignored",
    }
    summary |= changes
    (reports / name).mkdir(parents=True)
    (reports / name / "report.json").write_text(json.dumps(summary))


def test_summaries_come_back_as_they_were_newest_first(tmp_path: Path) -> None:
    write(tmp_path, "a", 100.0, drift(0.05))
    write(tmp_path, "b", 200.0, drift(0.5, moved=True))
    assert [run.folder for run in load(tmp_path)] == ["b", "a"]
    assert load(tmp_path)[0].past.drifts == (drift(0.5, moved=True),)
    assert load(tmp_path / "nowhere") == []


def test_a_summary_cut_short_or_of_another_form_is_no_history(tmp_path: Path) -> None:
    write(tmp_path, "good", 100.0, drift(0.05))
    write(tmp_path, "older", 90.0, drift=[{"name": "text prompts", "drifted": True, "tests": []}])
    write(tmp_path, "cut", 80.0)
    (tmp_path / "cut" / "report.json").write_text('{"since": 1')
    assert [run.folder for run in load(tmp_path)] == ["good"]


def test_reports_whose_verdict_was_in_words_are_still_read(tmp_path: Path) -> None:
    analysis = {name: value for name, value in EXPERIMENT.items() if name != "words"} | {"verdict": "treatment better"}
    write(tmp_path, "older", 100.0, drift(0.05), experiments=[{"analysis": analysis}])
    ((look,),) = [run.looks for run in load(tmp_path)]
    assert look.words == "treatment better"


def test_a_removed_report_is_gone(tmp_path: Path) -> None:
    for i in range(5):
        write(tmp_path, f"run{i}", 100.0 + i, drift(0.05))
    remove(tmp_path, load(tmp_path)[2:])
    assert [run.folder for run in load(tmp_path)] == ["run4", "run3"]


def test_the_index_shows_runs_and_trends_and_loads_nothing(tmp_path: Path) -> None:
    for i, one in enumerate([drift(0.05), drift(None), drift(0.5, moved=True)]):
        write(tmp_path, f"run{i}", 100.0 + 60 * i, one, simulated=3)
    page = write_index(tmp_path, 3).read_text()
    assert page.index("run2/report.html") < page.index("run0/report.html")
    assert "text prompts: &lt;words&gt;" in page
    assert "<words>" not in page
    assert "3 simulated" in page
    assert "<script" not in page and "src=" not in page and "http" not in page


def test_a_run_without_a_value_is_a_gap_in_its_column_s_chart(tmp_path: Path) -> None:
    for i, one in enumerate([drift(0.05), drift(None), drift(0.5, moved=True)]):
        write(tmp_path, f"run{i}", 100.0 + i, one)
    ((trend,),) = trends(list(reversed(load(tmp_path)))).values()
    dots = list(ElementTree.fromstring(trend.chart).iter("circle"))
    assert [dot.get("fill") for dot in dots] == ["var(--fine)", "var(--act)"]
    assert trend.words == "moved"
