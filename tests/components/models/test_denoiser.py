"""The network's contract: shapes, the caption's mask, and weights that load only when they are the sealed ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.artifact import ArtifactError, seal
from components.config import ImageModel
from components.models import denoiser as denoisers
from components.models.denoiser import TEXT_WIDTH, Denoiser

SHAPE = ImageModel(size=8, patch=4, hidden=32, layers=1, heads=2, text_tokens=4)
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    network = Denoiser(SHAPE)
    torch.nn.init.normal_(network.transformer.proj_out.weight)  # it starts at zero, which would hide differences
    return network.eval()


@pytest.fixture
def inputs() -> Inputs:
    torch.manual_seed(1)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    return torch.randn(2, 3, 8, 8), torch.tensor([0.2, 0.9]), torch.randn(2, 4, TEXT_WIDTH), mask


def sealed(denoiser: Denoiser, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    denoisers.save(denoiser, folder, dtype)
    seal(folder, line="image", kind="checkpoint", parents={}, parameters={}, metrics={})
    return folder


@torch.no_grad()
def test_an_untrained_network_leads_to_a_grey_picture(inputs: Inputs) -> None:
    latents, time, text, mask = inputs
    for times in (time, torch.tensor([0.001, 0.01])):
        grey = latents - times.view(-1, 1, 1, 1) * Denoiser(SHAPE)(latents, times, text, mask)
        assert grey.abs().max() < 1e-6


@torch.no_grad()
def test_padding_says_nothing_and_caption_and_time_do(denoiser: Denoiser, inputs: Inputs) -> None:
    latents, time, text, mask = inputs
    velocity = denoiser(latents, time, text, mask)
    assert velocity.shape == latents.shape
    other_padding = torch.where(mask[..., None], text, torch.randn_like(text))
    assert torch.allclose(denoiser(latents, time, other_padding, mask), velocity, atol=1e-6)
    assert not torch.allclose(denoiser(latents, time, text.flip(0), mask), velocity, atol=1e-4)
    assert not torch.allclose(denoiser(latents, time.flip(0), text, mask), velocity, atol=1e-4)
    assert torch.equal(denoiser(latents, time, text, mask.long()), velocity)


@torch.no_grad()
def test_saved_weights_load_to_the_same_network(denoiser: Denoiser, inputs: Inputs, tmp_path: Path) -> None:
    exact = denoisers.load(sealed(denoiser, tmp_path / "float32"))
    assert torch.equal(exact(*inputs), denoiser(*inputs))
    half = denoisers.load(sealed(denoiser, tmp_path / "float16", torch.float16))
    assert next(half.parameters()).dtype == torch.float32
    # The velocity is the picture's error divided by the time, here 0.2 and 0.9.
    assert torch.allclose(half(*inputs), denoiser(*inputs), atol=0.1)


def test_a_changed_byte_is_refused(denoiser: Denoiser, tmp_path: Path) -> None:
    folder = sealed(denoiser, tmp_path / "weights")
    weights = folder / denoisers.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match=r"denoiser\.safetensors was changed"):
        denoisers.load(folder)


def test_weights_of_another_shape_are_refused(denoiser: Denoiser, tmp_path: Path) -> None:
    denoisers.save(denoiser, tmp_path)
    config = tmp_path / denoisers.CONFIG
    config.write_text(config.read_text().replace('"layers": 1', '"layers": 2'))
    with pytest.raises(ArtifactError, match="not a denoiser's weights"):
        denoisers.read(tmp_path)
