"""OpenVINO loads what was exported, serves several threads, and says so where it cannot load."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from components.artifact import ArtifactError
from components.runtimes.base import ImageRequest
from components.runtimes.image import load_image, load_sampler
from components.runtimes.openvino import compiled


def test_captions_are_encoded_as_the_reference_does(tiny_image_export: Path) -> None:
    prompts = ["", "red apple", "blue dog red heart"]
    states, _ = load_sampler(tiny_image_export, "openvino").backend.encode(prompts)
    expected, _ = load_sampler(tiny_image_export, "pytorch").backend.encode(prompts)
    assert np.abs(states - expected).max() < 0.02  # weights are stored in half precision


def test_threads_do_not_mix_their_pictures(tiny_image_export: Path) -> None:
    runtime = load_image(tiny_image_export, "openvino")
    batches = [[ImageRequest("red dog", seed, 6, 3.0)] for seed in range(8)]
    alone = [runtime.generate(batch)[0] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = [pictures[0] for pictures in pool.map(runtime.generate, batches)]
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "denoiser.xml").write_text("not a model", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"denoiser\.xml"):
        compiled(ov.Core(), tmp_path / "denoiser.xml", None)
