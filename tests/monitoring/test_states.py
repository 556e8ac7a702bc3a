"""Every page is drawn from every state that the types of its data allow, and says nothing that is only Python's."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from components.annotation.quality import Curve, Report
from components.config import load
from components.lines import LINES, PROGRAMS
from components.releases.schema import Move
from flows.demo.timeline import Step, Timeline
from monitoring import history, ops, page, quality, report
from monitoring.probes import Alert, Metrics, Service
from monitoring.situation import LineState, Numbers, Objective, Situation, Standing

NOW = 1_800_000_000.0
EVERY = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
NAMES = ("text prompts", "text service", "image prompts", "image service")

st.register_type_strategy(float, st.one_of(st.just(0.0), st.floats(-1e4, 1e4, allow_subnormal=False)))
st.register_type_strategy(int, st.integers(0, 10_000))
st.register_type_strategy(str, st.sampled_from(["", "text-1", "text-2", "<b>'x'\"&", "图"]))

st.register_type_strategy(Move, st.builds(Move, evidence=st.just({})))
curves = st.lists(st.tuples(st.floats(0, NOW), st.floats(0, 1)), min_size=1, max_size=5).map(
    lambda points: Curve(
        *map(tuple, zip(*sorted(points), strict=True)), p_value=points[0][1], drifts=len(points) % 2 == 0
    )  # type: ignore[arg-type]
)
st.register_type_strategy(Curve, curves)
times = st.sampled_from([0.0, NOW - 3600, NOW - 1, NOW])
drifts = st.lists(st.sampled_from(NAMES), max_size=4, unique=True).flatmap(
    lambda names: st.tuples(*(st.builds(history.Drift, name=st.just(name)) for name in names))
)
runs = st.builds(history.Run, past=st.builds(history.Past, since=times, until=times, drifts=drifts))


def said(name: str) -> st.SearchStrategy[Any]:
    """What a service that answers says, by its kind."""
    if name == "prometheus":
        return st.builds(Metrics, rules=st.just({}), up=st.dictionaries(st.sampled_from([*LINES]), st.floats(0, 1)))
    if name == "alertmanager":
        return st.lists(st.builds(Alert, since=times, until=st.none()), max_size=2)
    return st.sampled_from(["text-1", "text-2"]) if name in PROGRAMS else st.none()


def service(name: str) -> st.SearchStrategy[Service]:
    down = st.builds(Service, name=st.just(name), problem=st.just("nothing listens on its port"), answer=st.none())
    return down | st.builds(Service, name=st.just(name), problem=st.just(""), answer=said(name))


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any mixture of what is there and what is not: services, lines, releases, numbers, experiments and reports."""
    names = ("gateway", *PROGRAMS, "mlflow", "prefect", "prometheus", "alertmanager", "label-studio")
    services = {name: draw(service(name)) for name in names}
    numbers = st.builds(Numbers, objectives=st.lists(st.builds(Objective), max_size=2).map(tuple))
    lines = [
        LineState(
            line,
            [services[name] for name in PROGRAMS if name.partition("-")[0] == line],
            draw(st.none() | st.from_type(Standing)),
            draw(st.none() | numbers),
        )
        for line in LINES
    ]
    kept = draw(st.lists(runs, max_size=4))
    return Situation(NOW, services, lines, draw(st.sampled_from(["", "no events database"])), kept)


def readable(text: str) -> None:
    """A page is whole, and holds no leftover of the language that it is made in."""
    assert text.rstrip().endswith("</html>")
    assert not re.search(r"\bNone\b(?! ran| is|\.)|\bnan\b|Undefined|<b>'x'", text)  # "None ran" is English


@given(situations())
@EVERY
def test_42_the_ops_page_has_every_state(situation: Situation) -> None:
    readable(ops.render(situation, Path(".atelier/reports")))


@given(st.lists(runs, max_size=4))
@EVERY
def test_42_the_index_has_every_state(kept: list[history.Run]) -> None:
    readable(history.index(kept, 3))


@given(st.builds(report.Summary, deployments=st.just([])), st.lists(st.tuples(st.text(), st.text()), max_size=2))
@EVERY
def test_42_the_report_has_every_state(summary: report.Summary, pictures: list[tuple[str, str]]) -> None:
    readable(report.render(summary, pictures))


states = st.fixed_dictionaries({name: st.integers(0, 9) for name in ("annotate", "review", "arbitrate", "done")})


@given(st.builds(Report, states=states))
@EVERY
def test_42_the_quality_page_has_every_state(found: Report) -> None:
    size = len(found.labels)
    readable(quality.page(asdict(replace(found, confusion_CC=((0.5,) * size,) * size))))


@given(st.lists(st.builds(Step, figures=st.just({"users": 60})), max_size=3))
@EVERY
def test_42_the_timeline_has_every_state(steps: list[Step]) -> None:
    readable(Timeline("proof", "simulated", Path("proof.html"), steps)._page())


def test_42_a_week_of_hourly_reports_in_which_a_line_is_idle_at_times() -> None:
    kept = [
        history.Run(f"run{i}", history.Past(NOW - 3600 * (i + 1), NOW - 3600 * i, ()), "none", 0, 0, (), ())
        for i in range(168)
    ]
    seen = history.Drift("text prompts", "the training data", history.Severity.NONE, "nothing moved", 90, 90)
    kept[3] = replace(kept[3], past=replace(kept[3].past, drifts=(seen,)))
    services = {name: Service(name, "", "down") for name in ("gateway", *PROGRAMS, "mlflow", "prefect")}
    services |= {name: Service(name, "", "down") for name in ("prometheus", "alertmanager")}
    lines = [LineState(line, [services[line]], None, None) for line in LINES]
    text = ops.render(Situation(NOW, services, lines, "", kept), Path())
    assert text.count('class="mark ') == ops.WINDOWS and text.count("not seen") == ops.WINDOWS - 1
    readable(history.index(kept, 3))


def test_42_a_page_that_fails_says_so_in_its_place_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ops, "gather", lambda *_: 1 / 0)
    params = load().model_copy(update={"monitor": load().monitor.model_copy(update={"report": str(tmp_path)})})
    written = ops.write_ops(params, {}, NOW)
    assert "This page could not be drawn" in written.read_text() and "ZeroDivisionError" in written.read_text()
    assert "ops.html could not be drawn" in caplog.text and "ZeroDivisionError" in caplog.text
    assert page.write(tmp_path / "a.html", lambda: "whole").read_text() == "whole"
