"""ONNX Runtime loads what was exported and says so where it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.artifact import ArtifactError
from components.runtimes.image import load_sampler
from components.runtimes.onnxruntime import session


def test_captions_are_encoded_as_the_reference_does(tiny_image_export: Path) -> None:
    prompts = ["", "red apple", "blue dog red heart"]
    states, mask = load_sampler(tiny_image_export, "onnxruntime").backend.encode(prompts)
    expected, expected_mask = load_sampler(tiny_image_export, "pytorch").backend.encode(prompts)
    assert np.array_equal(mask, expected_mask)
    assert np.allclose(states, expected, atol=1e-4)


def test_a_file_that_is_no_graph_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "denoiser.onnx").write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match=r"denoiser\.onnx"):
        session(tmp_path / "denoiser.onnx")
