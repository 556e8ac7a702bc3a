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

STRICT = GateImage(
    max_named_shortfall=0.25,
    max_kid_errors_over_base=1.0,
    max_recognition_loss=0.1,
    max_kid_increase=0.03,
)

TEXT = GateText(max_loss_ratio=1.0, min_chrf_gain=0.0, min_exact_gain=0.0, max_perplexity_increase=0.05)


def measured(kid: float, named: float) -> dict[str, Any]:
    """As the evaluation writes it; the base's KID is 0.1 and the error of the difference 0.02."""
    return {
        "before": {"kid": 0.1},
        "after": {"kid": kid},
        "judge_on_real_pictures": {},
        "known_to_base": {"captions": 100, "known": 80, "after": named, "real": 0.75},
        "kid_over_base": {"value": kid - 0.1, "standard_error": 0.02},
    }


GOOD_IMAGE = measured(0.1, 0.5)


def write(folder: Path, evaluation: dict[str, Any], verification: dict[str, Any]) -> None:
    (folder / "image").mkdir(exist_ok=True)
    for name, document in (("evaluate", evaluation), ("verify", verification)):
        (folder / "image" / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")


def test_values_on_the_threshold_pass_and_beyond_it_fail() -> None:
    assert all(check.passed for check in image_checks(GOOD_IMAGE, STRICT))
    assert image_checks(measured(0.119, 0.5), STRICT)[1].passed
    assert not any(check.passed for check in image_checks(measured(0.121, 0.49), STRICT))


def test_9_a_refusal_says_what_it_means_what_to_try_and_where_to_look() -> None:
    named, kid = refusals(verdict(image_checks(measured(0.13, 0.2), STRICT), parity=True))
    assert named.startswith(
        "named_shortfall is 0.55, must be at most 0.25 (of 100 captions the base paints 80 so that they are "
        "recognised; of these are recognised 20%, of your own pictures 75%): the style was learnt and the things were "
    )
    assert kid.startswith("kid_over_base is 0.03, must be at most 0.02 (KID 0.130, the base's 0.100): ")
    for words in (named, kid):
        assert "train.image." in words and words.endswith("; see artifacts/image/sheets/beside.png")


@pytest.mark.parametrize(("alignment", "passed"), [(0.295, True), (0.2, False)])
def test_9_where_the_base_can_paint_too_few_of_the_things_captions_count_as_they_do_for_the_base(
    alignment: float, passed: bool
) -> None:
    evaluation = measured(0.1, 0.5) | {"known_to_base": {"captions": 100, "known": 3}}
    evaluation["before"]["alignment"], evaluation["after"]["alignment"] = 0.3, alignment
    check = image_checks(evaluation, STRICT)[0]
    assert check.name == "alignment_over_base" and check.passed is passed
    assert check.note == "of 100 captions the base paints 3 so that they are recognised: too few"
    if not passed:
        assert "name the thing first in each caption" in refusals(verdict([check], parity=True))[0]


def measured_text(after: float, chrf: tuple[float, float], right: tuple[float, float]) -> dict[str, Any]:
    """As the evaluation writes it of 30 answers, with the loss after, and value and gain of two metrics."""
    values = {"chrf": chrf[0], "exact": right[0], "right": right[0]}
    gains = {"chrf": chrf[1], "exact": right[1], "right": right[1]}
    echo = {name: value - gains[name] for name, value in values.items()}
    return {
        "before": {"loss": 4.0, **echo},
        "unigram": {"loss": 3.0},
        "after": {"loss": after, **values, "lower": {name: value - 0.1 for name, value in values.items()}},
        "echo": echo,
        "gain": {**gains, **{f"{n}_lower": g - 0.1 for n, g in gains.items()}, "over": dict.fromkeys(values, "echo")},
        "samples": 30,
    }


def test_the_text_line_is_compared_with_its_base_and_with_no_model() -> None:
    checks = text_checks(measured_text(1.5, (0.6, 0.3), (0.5, 0.1)), TEXT)
    assert [check.value for check in checks] == pytest.approx([0.5, 0.2, 0.1]) and all(c.passed for c in checks)


def test_11_a_model_that_what_needs_no_model_beats_is_refused_in_words() -> None:
    checks = text_checks(measured_text(3.1, (0.2, 0.05), (0.1, -0.1)), TEXT)
    assert not any(check.passed for check in checks)
    assert refusals(verdict(checks, parity=True)) == [
        "loss_ratio is 1.033, must be at most 1 (held-out loss 3.10, how often each token is written 3.00)",
        "chrf_gain_lower is -0.05, must be at least 0 "
        "(characters in common with the wanted answer: 0.2 over 30 answers, the phrase repeated 0.15)",
        "exact_gain is -0.1, must be at least 0 "
        "(exactly the wanted answer: 0.1 over 30 answers, the phrase repeated 0.2)",
    ]


def bounded(**bounds: float) -> GateText:
    return TEXT.model_copy(update={"at_least": bounds})


def test_a_bound_of_any_figure_holds_at_the_lower_end_of_its_interval() -> None:
    evaluation = measured_text(1.5, (0.6, 0.3), (0.55, 0.3))
    evaluation["after"]["naming"], evaluation["samples_with_a_concept"] = 0.9, 20
    evaluation["judge"] = {"win_rate": 0.7, "win_rate_lower": 0.49, "wins": 14, "losses": 6, "pairs": 30, "model": "m"}
    passed = text_checks(evaluation, bounded(right=0.45, right_gain=0.19, naming=0.9, win_rate=0.49))
    assert all(check.passed for check in passed)
    failed = text_checks(evaluation, bounded(right=0.5, right_gain=0.25, win_rate=0.5))[3:]
    assert [check.passed for check in failed] == [False] * 3
    right = "(your metric right: 0.55 over 30 answers, the phrase repeated 0.25)"
    assert refusals(verdict(failed, parity=True)) == [
        f"right_lower is 0.45, must be at least 0.5 {right}",
        f"right_gain_lower is 0.2, must be at least 0.25 {right}",
        "win_rate_lower is 0.49, must be at least 0.5 (14 won and 6 lost of 30 pairs, by m)",
    ]


def test_a_figure_that_was_not_measured_is_refused_with_those_that_were() -> None:
    evaluation = measured_text(1.5, (0.6, 0.3), (0.55, 0.3))
    known = "chrf, chrf_gain, exact, exact_gain, right, right_gain; win_rate comes with evaluate.text.judge"
    with pytest.raises(
        StageError, match=rf"gate\.text\.at_least: the evaluation has no rihgt, win_rate; it has {known}"
    ):
        text_checks(evaluation, bounded(rihgt=0.5, win_rate=0.5))


def of_pipeline(loss: float, **judged: float) -> dict[str, Any]:
    """As the evaluation of a brought pipeline writes it; the loss was 1 before."""
    before = {"loss": 1.0} | ({"alignment": 0.2, "kid": 0.1} if judged else {})
    return {"before": before, "after": {"loss": loss} | judged}


def pipeline_gate(**bounds: float) -> GateImage:
    return STRICT.model_copy(update={"pipeline": bounds})


def test_a_pipeline_is_gated_by_its_held_out_loss() -> None:
    (check,) = image_checks(of_pipeline(0.9), STRICT)
    assert (check.name, check.value, check.passed) == ("loss_ratio", 0.9, True)
    assert not image_checks(of_pipeline(1.1), STRICT)[0].passed


def test_a_pipeline_is_gated_by_what_an_encoder_measured() -> None:
    bounds = pipeline_gate(alignment_gain=0.05, kid_increase=0.0)
    assert all(check.passed for check in image_checks(of_pipeline(2.0, alignment=0.3, kid=0.08), bounds))
    assert not any(check.passed for check in image_checks(of_pipeline(0.5, alignment=0.21, kid=0.2), bounds))


def test_a_pipeline_is_gated_by_any_figure_that_is_shown_beside_what_nobody_painted() -> None:
    evaluation = of_pipeline(1.0, alignment=0.3, kid=0.1, aesthetics=4.0)
    evaluation |= {"real_pictures": {"aesthetics": 6.0}, "nearest_training_picture": {"aesthetics": 5.5}}
    checks = image_checks(evaluation, pipeline_gate(aesthetics=5.0, kid=0.1))
    assert [check.passed for check in checks] == [False, True]
    assert refusals(verdict(checks, parity=True)) == [
        "aesthetics is 4, must be at least 5 "
        "(aesthetics 4, training's picture of the nearest caption 5.5, real pictures 6)"
    ]


def test_a_bound_of_what_was_not_measured_or_is_no_figure_is_refused_in_words() -> None:
    with pytest.raises(StageError, match=r"alignment_gain was not measured: set evaluate\.image\.encoder"):
        image_checks(of_pipeline(1.0), pipeline_gate(alignment_gain=0.0))
    with pytest.raises(StageError, match=r"inception_kid was not measured: set evaluate\.image\.inception"):
        image_checks(of_pipeline(1.0, alignment=0.3, kid=0.1), pipeline_gate(inception_kid=0.1))
    with pytest.raises(StageError, match=r"pipeline\.beauty: there is no such figure; there are aesthetics, "):
        image_checks(of_pipeline(1.0), pipeline_gate(beauty=1.0))


def test_nan_never_passes() -> None:
    nan = float("nan")
    checks = image_checks(measured(nan, nan), STRICT)
    assert not any(check.passed for check in checks) and verdict(checks, parity=True)["passed"] is False


def test_failed_parity_refuses_a_good_model_in_words() -> None:
    document = verdict(image_checks(GOOD_IMAGE, STRICT), parity=False)
    assert document["passed"] is False
    assert refusals(document) == ["the exported model's parity with PyTorch failed"]


def test_a_refusal_keeps_its_evidence_and_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "METRICS", tmp_path)
    write(tmp_path, measured(99.0, 0.75), {"passed": True})
    gate.main("image")
    document = json.loads((tmp_path / "image" / "gate.json").read_bytes())
    assert document["passed"] is False
    assert {row["name"]: row["value"] for row in document["checks"]} == {
        "named_shortfall": 0.0,
        "kid_over_base": 98.9,
    }
    assert "refused: kid_over_base is 98.9" in capsys.readouterr().out
    write(tmp_path, measured(0.01, 0.75), {"passed": True})
    gate.main("image")
    assert "passed: named_shortfall is 0, must be at most" in capsys.readouterr().out  # a pass says what it rests on


@pytest.mark.parametrize("evaluation", [{}, {"after": {"kid": 0.1}}, {"after": None}])
def test_metrics_of_another_shape_are_an_error_not_a_verdict(
    evaluation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "METRICS", tmp_path)
    write(tmp_path, evaluation, {"passed": True})
    with pytest.raises(StageError, match="not what the gate expects"):
        gate.main("image")
    assert not (tmp_path / "image" / "gate.json").exists()
