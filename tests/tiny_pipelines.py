"""Text-to-image pipelines small enough for tests: whole folders as people bring them, with random weights.

Native pictures are 64 pixels wide, the VAE shrinks them by 8. Every call writes equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5EncoderModel,
)

SIZE = 64  # pixels
CARD = "---\nlicense: apache-2.0\n---\nRandom weights, for tests.\n"
TOKENS = 16  # of a caption, where the real ones read 77


def write_tiny_sdxl(folder: Path, prediction: str = "epsilon") -> Path:
    """Stable Diffusion XL's parts: a UNet, two CLIP encoders, sizes as a condition; predicts the noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = tiny_unet(
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=16 + 6 * 8,
            cross_attention_dim=32,
        )
        pipeline = StableDiffusionXLPipeline(
            vae=tiny_vae(channels=4, scaling_factor=0.13025),
            text_encoder=clip_encoder(CLIPTextModel),
            text_encoder_2=clip_encoder(CLIPTextModelWithProjection),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            unet=unet,
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                steps_offset=1,
                timestep_spacing="leading",
                prediction_type=prediction,
            ),
            add_watermarker=False,
        )
    return save(pipeline, folder)


def write_tiny_sd3(folder: Path) -> Path:
    """Stable Diffusion 3's parts: a transformer of joint attention, two CLIP encoders and T5; flow matching."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SD3Transformer2DModel(
            sample_size=SIZE // 8,
            patch_size=2,
            in_channels=8,
            out_channels=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=16,
        )
        _let_it_speak(transformer.proj_out)
        pipeline = StableDiffusion3Pipeline(
            vae=tiny_vae(channels=8, scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=clip_encoder(CLIPTextModelWithProjection),
            text_encoder_2=clip_encoder(CLIPTextModelWithProjection),
            text_encoder_3=t5_encoder(),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            tokenizer_3=t5_tokenizer(),
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    return save(pipeline, folder)


def write_tiny_flux(folder: Path) -> Path:
    """FLUX's parts: a transformer on packed latents with rotary positions, CLIP and T5; flow matching, guided."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        )
        _let_it_speak(transformer.proj_out)
        pipeline = FluxPipeline(
            vae=tiny_vae(channels=4, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=clip_encoder(CLIPTextModel),
            text_encoder_2=t5_encoder(),
            tokenizer=clip_tokenizer(),
            tokenizer_2=t5_tokenizer(),
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        )
    return save(pipeline, folder)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "sdxl": write_tiny_sdxl,
    "sd3": write_tiny_sd3,
    "flux": write_tiny_flux,
}


def save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    """A folder as people bring it, with a card that names a licence."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


def _let_it_speak(layer: torch.nn.Linear) -> None:
    """Such transformers start from an output of 0: no test would see what goes in."""
    torch.nn.init.normal_(layer.weight, std=0.2)


def tiny_unet(**more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **more,
    )


def tiny_vae(channels: int, scaling_factor: float, shift_factor: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        sample_size=SIZE,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        use_quant_conv=shift_factor is None,
        use_post_quant_conv=shift_factor is None,
    ).eval()


def clip_tokenizer(tokens: int = TOKENS) -> CLIPTokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=tokens)


def clip_encoder(kind: type[CLIPTextModel] | type[CLIPTextModelWithProjection]) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=520,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return kind(config).eval()


def t5_tokenizer() -> T5TokenizerFast:
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(piece, -2.0) for piece in "▁abcdefghijklmnopqrstuvwxyz0123456789,.-"]
    return T5TokenizerFast(vocab=special + letters, extra_ids=0, model_max_length=TOKENS)


def t5_encoder(kind: type[T5EncoderModel] | type[UMT5EncoderModel] = T5EncoderModel) -> T5EncoderModel:
    sizes = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    return kind(kind.config_class(**sizes, pad_token_id=0)).eval()
