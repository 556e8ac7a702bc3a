"""Pictures of written prompts are judged by the name that was meant, whoever wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from components.evaluation import prompts
from components.evaluation.prompts import evaluate
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.runtimes.image import Sampler
from components.stage import StageError
from infra.figures import models
from tests.components.evaluation.test_image import PAINTING
from tests.tiny_image import StraightBackend, write_tiny_encoder

WRITTEN = [
    {"concept": "red", "phrase": "dog", "before": "dog", "after": "red", "nearest_answer": "dog", "reference": "red"},
    {"concept": "dog", "phrase": "red", "before": "dog", "after": "dog", "nearest_answer": "red", "reference": "dog"},
]


def test_each_writer_is_judged_by_the_pictures_of_its_own_prompts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge, encoder = Judge().eval().requires_grad_(False), TextEncoder(write_tiny_encoder(tmp_path))
    document = evaluate(Sampler(StraightBackend(), 4), judge, encoder, WRITTEN, PAINTING)
    red, black = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    red[0] = 255
    names = encoder.embed(["red", "dog"])
    expected = {"phrase": [black, red], "base_model": [black, black], "fine_tuned_model": [red, black]}
    expected |= {"nearest_answer": [black, red], "reference": [red, black]}
    for writer, pictures in expected.items():
        assert document[writer] == pytest.approx(alignment(judge, torch.stack(pictures), names), abs=1e-5)
    assert document["phrases"] == 2


def test_a_single_prompt_cannot_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "WRITTEN", tmp_path / "written.json")
    prompts.WRITTEN.write_text("[{}]")
    with pytest.raises(StageError, match=r"1 prompts; raise evaluate\.text\.samples"):
        prompts.main()


def test_answers_that_mean_no_picture_are_not_painted_and_the_metrics_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prompts, "WRITTEN", tmp_path / "written.json")
    monkeypatch.setattr(prompts, "METRICS", tmp_path / "prompts.json")
    row = {"phrase": "capital of France?", "reference": "Paris", "after": "Rome"}
    prompts.WRITTEN.write_text(json.dumps([row, row, {**row, "concept": "one"}]))
    prompts.main()
    document = json.loads(prompts.METRICS.read_bytes())
    assert document["phrases"] == 0 and "1 of 3 held-out pairs" in document["why"]
    assert document["why"] in capsys.readouterr().out and models.prompts(document) == ""
