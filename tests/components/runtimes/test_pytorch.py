"""The reference backend is the model as training knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from components.models.text_encoder import TextEncoder
from components.runtimes.base import ImageRequest
from components.runtimes.image import Sampler, starting_noise, to_picture
from components.runtimes.pytorch import PyTorchBackend
from tests.tiny_image import SHAPE, tiny_denoiser


@torch.inference_mode()
def test_the_sampler_follows_the_path_that_training_defines(tiny_encoder: Path) -> None:
    network, encoder = tiny_denoiser(), TextEncoder(tiny_encoder, SHAPE.text_tokens)
    text_BLD, mask_BL = encoder.encode(["red apple"])
    noise_BCHW = torch.from_numpy(starting_noise(5, SHAPE.size))[None]
    x_BCHW = noise_BCHW
    for step in range(6):  # Euler's, from noise (t = 1) to data (t = 0)
        x_BCHW = x_BCHW - network(x_BCHW, torch.tensor([1 - step / 6]), text_BLD, mask_BL) / 6
    sampler = Sampler(PyTorchBackend(network, encoder), SHAPE.size, "euler")
    (picture,) = sampler.generate([ImageRequest("red apple", seed=5, steps=6, guidance=1.0)])
    assert np.abs(picture.astype(int) - to_picture(x_BCHW[0].numpy())).max() <= 1
