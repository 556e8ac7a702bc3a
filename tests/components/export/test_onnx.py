"""Exported graphs take any batch and tell nothing of the machine that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from components.export.image import write_denoiser
from components.runtimes.image import load_sampler
from components.runtimes.trajectories import NAMES, forward
from tests.tiny_image import tiny_denoiser


def test_the_graph_takes_batches_it_was_not_traced_with(tiny_image_export: Path) -> None:
    golden = np.load(tiny_image_export / "golden" / "golden.npz", allow_pickle=False)
    backend = load_sampler(tiny_image_export, "onnxruntime").backend
    for batch in (1, 3, 8):
        velocity = forward(backend, {name: golden[name][:batch] for name in NAMES})
        assert np.allclose(velocity, golden["velocity"][:batch], atol=1e-4)


def test_equal_weights_give_equal_bytes_without_paths(tiny_image_export: Path, tmp_path: Path) -> None:
    write_denoiser(tiny_denoiser(), tmp_path, calibration=None)
    for name in ("denoiser.onnx", "denoiser.xml", "denoiser.bin"):
        content = (tmp_path / name).read_bytes()
        assert content == (tiny_image_export / "denoiser" / name).read_bytes()
        assert b"site-packages" not in content and str(Path.cwd()).encode() not in content
