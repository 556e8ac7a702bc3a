"""A pipeline is exported for ONNX Runtime, which paints what is stored; what it cannot paint is refused in words.

All families at all precisions on both engines: `drill_pipeline_engines.py`.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from components.config import ExportImage, load
from components.export.pipeline_onnxruntime import refuse
from components.models.pipelines import FAMILIES
from components.runtimes.base import ImageRequest
from components.runtimes.image import load_pipeline
from components.stage import StageError
from tests.components.export.pipelines import Made
from tests.conftest import ROOT

PARAMS = load(ROOT / "params.yaml")


def test_onnx_runtime_paints_what_is_stored_and_faults_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = ExportImage(weight_format="f16", calibration=1, engine="onnxruntime")
    made = Made(tmp_path, "flux", parameters, steps=2)
    document = made.measured()
    row = document["parity"]["onnxruntime"]
    assert document["passed"], row
    assert row["computes_in"] == "f32" and row["weights_error"] < 1e-4 < row["max_latents_error"]
    request = ImageRequest("a cat", 1, 2, 3.0, size=32)
    assert load_pipeline(made.export).generate([request])[0].shape == (32, 32, 3)
    for fault in made.faults(monkeypatch):
        document = made.measured()
        assert not document["passed"], (fault, document)


@pytest.mark.parametrize(
    ("scheduler", "steps", "said"),
    [
        (DDIMScheduler(), 3, "with EulerDiscreteScheduler .* names DDIMScheduler"),
        (EulerDiscreteScheduler(), 201, r"serving\.image_steps: 201"),
    ],
)
def test_what_onnx_runtime_cannot_paint_is_refused_in_words(scheduler: Any, steps: int, said: str) -> None:
    with pytest.raises(StageError, match=said):
        refuse(SimpleNamespace(scheduler=scheduler), FAMILIES["StableDiffusionXLPipeline"], steps)  # type: ignore[arg-type]
