"""A tiny image model, made and exported once for every test that needs one."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifact import seal


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caption encoder of one random layer, in MiniLM's layout."""
    from tests.tiny_image import write_tiny_encoder

    return write_tiny_encoder(tmp_path_factory.mktemp("image") / "encoder")


@pytest.fixture(scope="session")
def tiny_image_export(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image model as a sealed float32 export for all three engines."""
    from components.config import ExportImage, load
    from components.export.image import write_export
    from tests.conftest import ROOT
    from tests.tiny_image import CAPTIONS, tiny_denoiser

    folder = tmp_path_factory.mktemp("image-export") / "export"
    parameters = ExportImage(weight_format="f32", calibration=8)
    write_export(tiny_denoiser(), tiny_encoder, CAPTIONS, parameters, load(ROOT / "params.yaml").serving, folder)
    seal(folder, line="image", kind="export", parents={}, parameters={}, metrics={})
    return folder
