"""The reference backend: PyTorch in float32, against which every other engine is compared.

The only runtime that imports torch, and the only one that knows the model's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from components.models import denoiser
from components.models.denoiser import Denoiser
from components.models.text_encoder import TextEncoder
from components.runtimes.base import Floats


class PyTorchBackend:
    """A denoiser and a caption encoder, held as modules so that training's own can be sampled as well."""

    def __init__(self, network: Denoiser, encoder: TextEncoder) -> None:
        self.network = network.eval()
        self.encoder = encoder

    @classmethod
    def read(cls, folder: Path, tokens: int) -> PyTorchBackend:
        """From the `denoiser/` and `encoder/` of an exported folder whose digests were verified."""
        return cls(denoiser.read(folder / "denoiser"), TextEncoder(folder / "encoder", tokens))

    def encode(self, prompts: Sequence[str]) -> tuple[Floats, Floats]:
        states_BLD, mask_BL = self.encoder.encode(prompts)
        return states_BLD.numpy(), mask_BL.float().numpy()

    @torch.inference_mode()
    def velocity(self, latents_BCHW: Floats, time_B: Floats, text_BLD: Floats, mask_BL: Floats) -> Floats:
        inputs = (torch.from_numpy(array) for array in (latents_BCHW, time_B, text_BLD, mask_BL))
        return self.network(*inputs).float().numpy()
