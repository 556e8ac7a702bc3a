"""Quantisation makes the file smaller and stays close, the same way each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov

from components.export.openvino import export_openvino
from components.runtimes.trajectories import NAMES, split_rows


def test_int8_is_smaller_close_and_reproducible(tiny_image_export: Path, tmp_path: Path) -> None:
    golden = np.load(tiny_image_export / "golden" / "golden.npz", allow_pickle=False)
    inputs = {name: golden[name] for name in NAMES}
    for name in ("one", "two"):
        export_openvino(tiny_image_export / "denoiser" / "denoiser.onnx", tmp_path / f"{name}.xml", split_rows(inputs))
    assert (tmp_path / "one.bin").read_bytes() == (tmp_path / "two.bin").read_bytes()
    assert (tmp_path / "one.bin").stat().st_size < (tiny_image_export / "denoiser" / "denoiser.bin").stat().st_size
    velocity = ov.Core().compile_model(tmp_path / "one.xml", "CPU")(inputs)[0].ravel()
    expected = golden["velocity"].ravel()
    assert velocity @ expected > 0.97 * np.linalg.norm(velocity) * np.linalg.norm(expected)
