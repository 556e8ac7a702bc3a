"""The gate compares with thresholds, keeps its evidence whatever the verdict, and says what failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.config import GateImage, GateText
from components.evaluation import gate
from components.evaluation.gate import image_checks, refusals, text_checks, verdict
from components.stage import StageError

GOOD_IMAGE: dict[str, Any] = {"after": {"kid": 0.1, "alignment": 0.3}}


def write(folder: Path, evaluation: dict[str, Any], verification: dict[str, Any]) -> None:
    (folder / "image").mkdir(exist_ok=True)
    for name, document in (("evaluate", evaluation), ("verify", verification)):
        (folder / "image" / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")


def test_values_on_the_threshold_pass_and_beyond_it_fail() -> None:
    bounds = GateImage(max_kid=0.1, min_alignment=0.3)
    assert all(check.passed for check in image_checks(GOOD_IMAGE, bounds))
    beyond = image_checks({"after": {"kid": 0.11, "alignment": 0.29}}, bounds)
    assert not any(check.passed for check in beyond)


def test_the_text_line_is_compared_with_its_base() -> None:
    evaluation = {"before": {"loss": 4.0, "naming": 0.1}, "after": {"loss": 2.0, "naming": 0.6}}
    checks = text_checks(evaluation, GateText(max_loss_ratio=1.0, min_naming_gain=0.0))
    assert [check.value for check in checks] == pytest.approx([0.5, 0.5])


def test_nan_never_passes() -> None:
    nan = float("nan")
    checks = image_checks({"after": {"kid": nan, "alignment": nan}}, GateImage(max_kid=1.0, min_alignment=0.0))
    assert verdict(checks, parity=True)["passed"] is False


def test_failed_parity_refuses_a_good_model_in_words() -> None:
    document = verdict(image_checks(GOOD_IMAGE, GateImage(max_kid=0.2, min_alignment=0.1)), parity=False)
    assert document["passed"] is False
    assert refusals(document) == ["the exported model's parity with PyTorch failed"]


def test_a_refusal_keeps_its_evidence_and_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "METRICS", tmp_path)
    write(tmp_path, {"after": {"kid": 99.0, "alignment": 0.9}}, {"passed": True})
    gate.main("image")
    document = json.loads((tmp_path / "image" / "gate.json").read_bytes())
    assert document["passed"] is False
    assert {row["name"]: row["value"] for row in document["checks"]} == {"kid": 99.0, "alignment": 0.9}
    assert "refused: kid is 99" in capsys.readouterr().out


@pytest.mark.parametrize("evaluation", [{}, {"after": {"kid": 0.1}}, {"after": None}])
def test_metrics_of_another_shape_are_an_error_not_a_verdict(
    evaluation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "METRICS", tmp_path)
    write(tmp_path, evaluation, {"passed": True})
    with pytest.raises(StageError, match="not what the gate expects"):
        gate.main("image")
    assert not (tmp_path / "image" / "gate.json").exists()
