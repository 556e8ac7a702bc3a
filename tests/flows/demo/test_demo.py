"""The demo stops what it started, whatever happens, and its table says what the metrics say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.artifact import write_text
from components.config import load
from components.stage import StageError
from flows import stack
from flows.demo import demo
from monitoring.simulated import AudienceRun

METRICS: dict[str, Any] = {
    "text/train": {"steps": 60, "pairs": 900},
    "text/evaluate": {
        "before": {"loss": 4.5, "chrf": 0.25},
        "after": {"loss": 1.5, "chrf": 0.75},
        "echo": {"chrf": 0.5},
    },
    "text/verify": {"parity": {"top1_agreement": 0.985}},
    "image/train": {"steps": 200, "samples": 319},
    "image/forgetting": {"before": {"top1": 0.9}, "after": {"top1": 0.6}},
    "image/evaluate": {
        "before": {"kid": 0.5, "alignment": 0.1, "top1": 0.3, "seen_captions": {"top1": 0.5}},
        "after": {"kid": 0.25, "alignment": 0.2, "top1": 0.4, "seen_captions": {"top1": 0.75}},
        "judge_on_real_pictures": {"top1": 0.6, "seen_captions": {"top1": 0.8}},
    },
    "image/verify": {"parity": {"openvino": {"min_image_psnr": 29.3}}},
}
TRAFFIC = AudienceRun(
    seed=7,
    users=60,
    started=0.0,
    ended=60.0,
    drift=0.0,
    request_ids=[f"r{number}" for number in range(179)],
    failed_ids=[],
    failed=1,
    likes=90,
    dislikes=30,
    pictures=[],
)
EXPERIMENT = {
    "experiment": "colours",
    "words": "no difference",
    "difference": -0.01,
    "interval": [-0.2, 0.18],
    "arms": [{"users": 30}, {"users": 20}],
    "still_open": 10,
}


def write_metrics(folder: Path) -> None:
    for name, document in METRICS.items():
        write_text(folder / "metrics" / f"{name}.json", json.dumps(document))


def test_the_table_says_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_metrics(tmp_path)
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    table = demo.summary(TRAFFIC, {"experiments": [{"analysis": EXPERIMENT}]})
    rows = dict(zip(*(column.cells for column in table.columns), strict=True))
    assert rows["text: held-out loss"] == "4.50 before, 1.50 after"
    assert rows["text: chrF to the wanted prompt"] == "0.25 before, 0.75 after, 0.50 the phrase unchanged"
    assert rows["image: gained, KID to held-out pictures"] == "0.5000 before, 0.2500 after"
    assert rows["image: forgotten, base's styles named"] == "90% before, 60% after"
    named = rows["image: named by the judge, seen captions / held-out ones"]
    assert named == "50% / 30% before; 75% / 40% after; 80% / 60% of real pictures"
    assert rows["text: served equals trained"] == "OpenVINO, same top token 98.5%"
    assert rows["image: served equals trained"] == "openvino, PSNR of pictures 29 dB at least"
    assert rows["simulated audience"] == "60 users, 179 of 180 requests answered, 90 likes"
    said = "no difference: difference -0.010, interval -0.200 to +0.180; 50 users count, 10 do not yet"
    assert rows["experiment colours"] == said


@pytest.mark.parametrize(("already", "stops"), [(set(), 1), ({"prefect"}, 0)])
def test_a_failing_demo_stops_what_it_started_and_no_more(
    monkeypatch: pytest.MonkeyPatch, already: set[str], stops: int
) -> None:
    stopped: list[bool] = []

    def fail(*_: Any) -> None:
        raise StageError("no server today")

    monkeypatch.setattr(stack, "running", lambda: already)
    monkeypatch.setattr(stack, "start", fail)
    monkeypatch.setattr(stack, "stop", lambda: stopped.append(True))
    with pytest.raises(StageError, match="no server today"):
        demo.demo(load())
    assert len(stopped) == stops


def test_it_ends_by_saying_where_to_look() -> None:
    told = demo.where_to_look(load(), ".atelier/reports/1.html")
    assert ".atelier/reports/1.html" in told
    assert f":{load().serving.gateway_port}/v1" in told


@pytest.mark.parametrize(("hours", "waited"), [(0.005, [18.0]), (24.0, [])])
def test_06_the_demo_reports_once_its_users_count_and_waits_for_no_days(
    hours: float, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(demo.time, "sleep", slept.append)
    (experiment,) = load().experiments
    other = experiment.model_copy(update={"attribution_hours": hours})
    demo.await_attribution(load().model_copy(update={"experiments": (other,)}))
    assert slept == waited
