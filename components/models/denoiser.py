"""The image line's network: a diffusion transformer that gives a velocity from noisy pixels, time and caption states.

Built from diffusers' PixArt blocks (Chen et al. 2023, arXiv:2310.00426): self-attention over patches, cross-attention
to the caption, time by one shared adaptive layer norm. It predicts the clean picture, from which the velocity follows:
a picture lies near a surface of few dimensions where noise fills them all, so that patches may be large and few (Li and
He 2025, arXiv:2511.13720). Knows nothing of training, of sampling or of how captions become states.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.artifact import ArtifactError, canonical, verify, write_text
from components.config import ImageModel

CHANNELS = 3  # RGB in pixel space: at 32 px a latent autoencoder would cost more than it saves
TEXT_WIDTH = 384  # all-MiniLM-L6-v2's hidden size
TIME_SCALE = 1000.0  # the sinusoidal embedding's frequencies expect times of 0 to 1000
WEIGHTS = "denoiser.safetensors"
CONFIG = "config.json"


class Denoiser(nn.Module):
    """velocity(x_t, t, caption): RGB pictures in [-1, 1], time above 0 (data) and up to 1 (noise).

    A step over all the time that is left ends at the picture that the network predicts.
    """

    def __init__(self, shape: ImageModel) -> None:
        super().__init__()
        self.shape = shape
        self.transformer = PixArtTransformer2DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.hidden // shape.heads,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_layers=shape.layers,
            cross_attention_dim=shape.hidden,
            sample_size=shape.size,
            patch_size=shape.patch,
            caption_channels=TEXT_WIDTH,
            use_additional_conditions=False,
        )
        # Starting from a grey picture keeps the first steps of a high learning rate from blowing up (as in DiT).
        nn.init.zeros_(self.transformer.proj_out.weight)
        nn.init.zeros_(self.transformer.proj_out.bias)

    def forward(self, latents_BCHW: Tensor, time_B: Tensor, text_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Velocity BCHW; `mask_BL` is 1 for a caption's tokens and 0 for padding, in any numeric or boolean type."""
        clean_BCHW = self.transformer(
            latents_BCHW,
            encoder_hidden_states=text_BLD,
            timestep=time_B * TIME_SCALE,
            encoder_attention_mask=mask_BL.to(latents_BCHW.dtype),
            return_dict=False,
        )[0]
        return (latents_BCHW - clean_BCHW) / time_B.view(-1, 1, 1, 1)


def save(denoiser: Denoiser, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write weights and shape into `folder`; sealing it with a manifest is the caller's."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in denoiser.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    write_text(folder / CONFIG, canonical(denoiser.shape.model_dump()))


def load(folder: Path) -> Denoiser:
    """Read a sealed folder, in float32 and evaluation mode; raises `ArtifactError` where bytes or shapes are wrong."""
    verify(folder)
    return read(folder)


def read(folder: Path) -> Denoiser:
    """As `load`, where the caller has verified the artifact `folder` is a part of."""
    try:
        shape = ImageModel.model_validate(json.loads((folder / CONFIG).read_bytes()))
        weights = load_file(folder / WEIGHTS)
        denoiser = Denoiser(shape)
        denoiser.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{folder}: not a denoiser's weights: {error}") from error
    return denoiser.eval()
