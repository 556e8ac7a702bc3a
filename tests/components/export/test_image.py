"""An export holds every engine's files and golden outputs that hold on an engine without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from components.artifact import verify
from components.export import image
from components.runtimes.base import ImageRequest
from components.runtimes.image import load_image
from components.stage import StageError


def test_an_export_has_the_files_of_every_engine(tiny_image_export: Path) -> None:
    files = verify(tiny_image_export).files
    expected = {"denoiser.safetensors", "config.json", "denoiser.onnx", "denoiser.xml", "denoiser.bin"}
    assert {f"denoiser/{name}" for name in expected} <= files.keys()
    assert {
        "encoder/encoder.onnx",
        "encoder/encoder.xml",
        "encoder/encoder.bin",
        "encoder/tokenizer.json",
    } <= files.keys()


def test_golden_requests_give_the_golden_pictures(tiny_image_export: Path) -> None:
    document = json.loads((tiny_image_export / "golden" / "golden.json").read_bytes())
    golden = np.load(tiny_image_export / "golden" / "golden.npz", allow_pickle=False)
    pictures = load_image(tiny_image_export, "onnxruntime").generate([ImageRequest(**r) for r in document["requests"]])
    assert np.abs(np.stack(pictures).astype(int) - golden["pictures"]).max() <= 1


def test_more_calibration_than_samples_is_refused_before_any_work(
    tiny_image_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image.denoiser, "load", lambda folder: None)
    monkeypatch.setattr(image.sample, "iterate", lambda path: iter([]))
    monkeypatch.setattr(image, "EXPORT", tmp_path / "export")
    with pytest.raises(StageError, match=r"export\.image\.calibration"):
        image.main()
    assert not (tmp_path / "export").exists()
