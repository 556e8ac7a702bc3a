"""A pipeline is exported in 8 bits, and what ONNX Runtime cannot paint is refused in words.

All families at all precisions on both engines: `drill_pipeline_engines.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.config import ExportImage
from components.export.pipeline_onnxruntime import refuse
from components.stage import StageError
from tests.components.export.pipelines import Made


def test_weights_of_8_bits_are_painted_with_and_faults_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path, "flux", ExportImage(weight_format="int8", calibration=1), steps=2)
    document = made.measured()
    row = document["parity"]["openvino"]
    assert document["passed"], row
    assert row["weights_error"] < 1e-4 < row["max_latents_error"] and row["min_image_psnr"] > 35
    for fault in made.faults(monkeypatch):
        document = made.measured()
        assert not document["passed"], (fault, document)


def test_more_steps_than_onnx_runtime_paints_are_refused_in_words() -> None:
    with pytest.raises(StageError, match=r"serving\.image_steps: 201"):
        refuse(201)
