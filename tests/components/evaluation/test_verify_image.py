"""Parity is measured on equal inputs, written down, and stops the pipeline where it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components.config import VerifyImage, load
from components.data.sample import Sample
from components.evaluation import verify_image
from components.evaluation.psnr import psnr
from components.evaluation.verify_image import lowest_cosine, measure
from components.stage import StageError
from tests.conftest import ROOT
from tests.tiny_image import CAPTIONS

SERVING = load(ROOT / "params.yaml").serving.model_copy(update={"image_steps": 3})

LENIENT = VerifyImage(samples=2, min_velocity_cosine=0.99, min_image_psnr=20.0)


def test_the_worst_row_decides_the_cosine() -> None:
    one = np.ones((2, 3, 2, 2), np.float32)
    other = one.copy()
    other[1] *= -1
    assert lowest_cosine(one, 5 * one) == pytest.approx(1)
    assert lowest_cosine(one, other) == pytest.approx(-1)


def test_psnr_of_known_pictures() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr(black, black) == 100
    assert psnr(black, grey) == pytest.approx(20 * np.log10(5))


def test_both_engines_are_at_parity(tiny_image_export: Path) -> None:
    document = measure(tiny_image_export, CAPTIONS[:2], SERVING, LENIENT)
    assert document["passed"] is True
    assert document["parity"]["onnxruntime"]["min_velocity_cosine"] > 0.9999


def test_failed_parity_is_written_down_before_it_stops_the_pipeline(
    tiny_image_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"passed": False, "parity": {"openvino": {"min_velocity_cosine": 0.5, "min_image_psnr": 9.0}}}
    monkeypatch.setattr(verify_image, "measure", lambda *arguments: failed)
    monkeypatch.setattr(verify_image.sample, "read", lambda path: [Sample("1", "red dog")])
    monkeypatch.setattr(verify_image, "EXPORT", tiny_image_export)
    monkeypatch.setattr(verify_image, "METRICS", tmp_path / "verify.json")
    with pytest.raises(StageError, match="parity with PyTorch failed"):
        verify_image.main()
    assert json.loads((tmp_path / "verify.json").read_bytes())["parity"] == failed["parity"]
