"""A whole image artifact around an untrained network, and a real image Bento that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from components.artifact import seal
from components.config import ImageModel
from components.export.image import write_denoiser, write_encoder
from components.models.denoiser import Denoiser
from tests.bentos.processes import free_port, process_command, running, workspace

SHAPE = ImageModel(size=16, patch=4, hidden=32, layers=1, heads=2, text_tokens=8)


def make_artifact(folder: Path, minilm: Path, shape: ImageModel) -> Path:
    """An exported folder whose network has random weights from seed 0."""
    torch.manual_seed(0)
    network = Denoiser(shape).eval()
    torch.nn.init.normal_(network.transformer.proj_out.weight, std=0.02)
    write_denoiser(network, folder / "denoiser", None)
    write_encoder(minilm, shape.text_tokens, folder / "encoder")
    seal(folder, line="image", kind="export", parents={}, parameters={}, metrics={})
    return folder


@pytest.fixture(scope="session")
def image_artifact(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("artifact") / "image", tiny_encoder, SHAPE)


@pytest.fixture(scope="session")
def image_bento(image_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder = workspace(tmp_path_factory.mktemp("image-bento"), image_max_batch=8)
    environment = {"ATELIER_IMAGE_ARTIFACT": str(image_artifact), "ATELIER_DEPLOYMENT": "image-7"}
    with running(process_command("bentos.image.service:ImageBento", port), folder, f"{url}/readyz", environment):
        yield url
