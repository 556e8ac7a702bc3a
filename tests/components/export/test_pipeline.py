"""A pipeline is exported at each precision for each engine, paints what is stored, and a wrong layer is found."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from components.config import ExportImage, load
from components.evaluation.verify_pipeline import measure
from components.export.pipeline import write_pipeline
from components.export.pipeline_onnxruntime import refuse
from components.models.pipelines import FAMILIES, adapters, family_of
from components.runtimes.pipeline_onnxruntime import torch_noise
from components.stage import StageError
from tests.conftest import ROOT
from tests.tiny_pipelines import WRITERS

PARAMS = load(ROOT / "params.yaml")
SERVING = PARAMS.serving.model_copy(update={"image_steps": 3})


class Made:
    """A tiny pipeline, an adapter of it, and its export with that."""

    def __init__(self, folder: Path, name: str, engine: str, weight_format: str) -> None:
        self.base, self.checkpoint, self.export = (folder / part for part in ("base", "checkpoint", "export"))
        WRITERS[name](self.base)
        self.family = family_of(self.base)
        network = adapters.add(self.family.read_network(self.base), self.family, 2, 2.0)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for parameter in (value for key, value in network.named_parameters() if "lora_B" in key):
                parameter.normal_(std=0.5)
        adapters.save(network, self.family, self.checkpoint)
        self.parameters = ExportImage.model_validate(
            {"weight_format": weight_format, "calibration": 1, "engine": engine}
        )
        self.write(1.0)

    def write(self, factor: float) -> None:
        """The export, with the largest matrix of the network `factor` times as large as it was trained."""

        def read() -> Any:
            pipeline = self.family.read(self.base)
            adapters.apply(pipeline, self.family, self.checkpoint)
            matrices = (p for p in self.family.network(pipeline).parameters() if p.ndim == 2)
            max(matrices, key=torch.Tensor.numel).data *= factor
            return pipeline

        shutil.rmtree(self.export, ignore_errors=True)
        write_pipeline(read, self.family, self.base, self.parameters, SERVING, self.export)

    def measured(self) -> dict[str, Any]:
        captions = ["a red apple", "a dog"]
        return measure(self.export, self.base, self.family, self.checkpoint, captions, SERVING, PARAMS.verify.image)


@pytest.mark.parametrize(
    ("name", "engine", "weight_format"), [("sdxl", "openvino", "int8"), ("flux", "onnxruntime", "f16")]
)
def test_what_is_stored_is_painted_and_a_layer_that_is_too_large_is_found(
    tmp_path: Path, name: str, engine: str, weight_format: str
) -> None:
    made = Made(tmp_path, name, engine, weight_format)
    document = made.measured()
    row = document["parity"][engine]
    assert document["passed"], row
    assert row["weights_error"] < 1e-3 < row["max_latents_error"] and row["seed_repeats"]
    assert row["adapter_effect"] > 10 * row["adapter_merged_error"]
    made.write(1.05)
    assert made.measured()["parity"][engine]["weights_error"] > 3e-3


def test_a_seed_gives_the_noise_of_torch() -> None:
    for seed in (0, 7, 2**32 - 1):
        expected = torch.randn(1, 4, 8, 10, generator=torch.Generator().manual_seed(seed))
        assert np.abs(torch_noise(seed, (1, 4, 8, 10)) - expected.numpy()).max() < 1e-6


@pytest.mark.parametrize(
    ("weight_format", "scheduler", "steps", "said"),
    [
        ("int8", EulerDiscreteScheduler(), 3, "takes pipelines in f32 or f16; int8 is OpenVINO's"),
        ("f32", DDIMScheduler(), 3, "with EulerDiscreteScheduler .* names DDIMScheduler"),
        ("f32", EulerDiscreteScheduler(), 201, r"serving\.image_steps: 201"),
    ],
)
def test_what_onnx_runtime_cannot_paint_is_refused_in_words(
    weight_format: str, scheduler: Any, steps: int, said: str
) -> None:
    with pytest.raises(StageError, match=said):
        refuse(SimpleNamespace(scheduler=scheduler), FAMILIES["StableDiffusionXLPipeline"], weight_format, steps)
