"""An export holds every engine's files and golden outputs that hold on an engine without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from components.artifact import verify
from components.config import ExportImage, load
from components.data.sample import Sample
from components.export import image
from components.runtimes.base import ImageRequest
from components.runtimes.image import load_image
from components.stage import StageError
from tests.conftest import ROOT
from tests.tiny_image import tiny_denoiser

PARAMS = load(ROOT / "params.yaml")
SERVING = PARAMS.serving.model_copy(update={"image_steps": 10})


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


@pytest.mark.parametrize("weight_format", ["f32", "int8"])
def test_only_a_calibration_that_the_samples_cannot_fill_is_refused_and_before_any_work(
    weight_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = ExportImage.model_validate({"weight_format": weight_format, "calibration": 64})
    monkeypatch.setattr(
        image.config,
        "load",
        lambda: SimpleNamespace(export=SimpleNamespace(image=section), serving=SERVING, base=PARAMS.base),
    )
    monkeypatch.setattr(image.denoiser, "load", lambda folder: tiny_denoiser())
    monkeypatch.setattr(image, "write_export", lambda *arguments: None)
    monkeypatch.setattr(image, "read_manifest", lambda folder: SimpleNamespace(digest="", parameters={}))
    monkeypatch.setitem(image.STAGES, "export_image", (tmp_path, tmp_path / "export"))
    monkeypatch.setattr(image.sample, "iterate", lambda path: iter([Sample(str(n), "red apple") for n in range(3)]))
    if weight_format == "f32":
        image.main("export_image")
    else:
        with pytest.raises(StageError, match=r"calibration 64 exceeds the 60 inputs that 3 training samples give"):
            image.main("export_image")
    assert (tmp_path / "export").exists() == (weight_format == "f32")
