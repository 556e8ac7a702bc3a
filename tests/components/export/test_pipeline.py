"""A pipeline is exported in 16 bits for ONNX Runtime; what that cannot paint is refused in words.

All families at all precisions on both engines: `drill_pipeline_engines.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import EulerDiscreteScheduler

from components.config import ExportImage
from components.export.pipeline_onnxruntime import refuse
from components.models.pipelines import FAMILIES
from components.stage import StageError
from tests.components.export.pipelines import Made


def test_what_is_stored_is_painted_with_and_faults_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = ExportImage(weight_format="f16", calibration=1, engine="onnxruntime")
    made = Made(tmp_path, "sdxl", parameters, steps=2)
    document = made.measured()
    row = document["parity"]["onnxruntime"]
    assert document["passed"], row
    assert row["weights_error"] < 1e-4 < row["max_latents_error"] and row["min_image_psnr"] > 35
    for fault in made.faults(monkeypatch):
        document = made.measured()
        assert not document["passed"], (fault, document)


def test_more_steps_than_onnx_runtime_paints_are_refused_in_words() -> None:
    with pytest.raises(StageError, match=r"serving\.image_steps: 201"):
        refuse(201)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("interpolation", ["linear", "log_linear"])
def test_every_number_of_steps_has_as_many_times_and_ends_without_noise(spacing: str, interpolation: str) -> None:
    """Of 61 "trailing" steps diffusers makes 62 times, the last of which is -1."""
    scheduler = EulerDiscreteScheduler(timestep_spacing=spacing, interpolation_type=interpolation)
    levels = FAMILIES["StableDiffusionXLPipeline"].levels
    for steps in (1, 4, 61):
        sigmas, times = levels(scheduler, steps)
        assert len(times) == steps == len(sigmas) - 1 and (times >= 0).all()
        assert (sigmas.diff() < 0).all() and (interpolation == "log_linear" or sigmas[-1] == 0)
