"""Stable Diffusion XL with every layer, random weights and a share of its widths; and pictures for it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedModel

from components.data.sample import Sample
from components.models.pipelines import FAMILIES, Family
from components.training.encoded import Encoded, Encoders, Item, items
from tests.tiny_pipelines import clip_tokenizer

TOKENS = 77  # of a caption
FILES = {"vae/weights": "of this bench", "text_encoder/weights": "of this bench"}  # digests that no one compares


def write_sdxl(folder: Path, share: float) -> int:
    """A pipeline whose parts are `share` as wide as those of the real one, in bf16; returns the UNet's parameters."""

    def wide(*widths: int) -> tuple[int, ...]:
        return tuple(int(width * share) for width in widths)

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    first, second = wide(768, 1280)
    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=wide(320, 640, 1280),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(5, 10, 20),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        transformer_layers_per_block=(1, 2, 10),
        projection_class_embeddings_input_dim=second + 6 * 256,
        cross_attention_dim=first + second,
    )
    vae = AutoencoderKL(
        block_out_channels=wide(128, 256, 512, 512),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.13025,
    )
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=_clip(CLIPTextModel, first, layers=12, heads=6),
        text_encoder_2=_clip(CLIPTextModelWithProjection, second, layers=32, heads=10),
        tokenizer=clip_tokenizer(TOKENS),
        tokenizer_2=clip_tokenizer(TOKENS),
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        add_watermarker=False,
    ).save_pretrained(folder, safe_serialization=True)
    torch.set_default_dtype(torch.float32)
    return sum(p.numel() for p in unet.parameters())


def _clip(kind: type[PreTrainedModel], width: int, layers: int, heads: int) -> PreTrainedModel:
    config = CLIPTextConfig(
        vocab_size=520,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return kind(config)


def family() -> Family:
    return FAMILIES["StableDiffusionXLPipeline"]


def pictures(count: int, size: int) -> list[Item]:
    """Noise with captions, all in one bucket."""
    noise = np.random.default_rng(0)
    rows = []
    for number in range(count):
        data = BytesIO()
        Image.fromarray(noise.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(data, "PNG")
        rows.append(Sample(f"p{number}", f"a picture of number {number}", image=data.getvalue()))
    return items(rows, (size,), 32)


def encoded(folder: Path, cache: Path) -> Encoded:
    """The cache of a pipeline in `folder`, as training has it."""
    return Encoded(Encoders(family(), folder, torch.bfloat16, torch.device("cpu")), FILES, cache)
