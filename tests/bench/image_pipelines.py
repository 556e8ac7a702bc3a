"""Tiny pipelines with random weights of diffusers' other text-to-image families, each made from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2Model,
    UMT5EncoderModel,
)

from tests.tiny_pipelines import SIZE, clip_encoder, clip_tokenizer, t5_encoder, t5_tokenizer, tiny_unet, tiny_vae

LATENT = SIZE // 8
SQUARE = {"height": SIZE, "width": SIZE}
# What a pipeline's call takes beside prompt, steps and noise.
PAINTED: dict[str, dict[str, Any]] = {
    "pixart_alpha": {"use_resolution_binning": False},
    "pixart_sigma": {"use_resolution_binning": False},
    "sana": {"use_resolution_binning": False, "complex_human_instruction": None},
    "hunyuan_dit": {"use_resolution_binning": False},
}


def paint(pipeline: diffusers.DiffusionPipeline, **given: Any) -> np.ndarray[Any, Any]:
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(3)
    made = pipeline("a red apple", num_inference_steps=2, generator=noise, output_type="np", **SQUARE, **given)
    return np.asarray(made.images[0])


def _stable_diffusion(prediction: str) -> diffusers.DiffusionPipeline:
    return diffusers.StableDiffusionPipeline(
        vae=tiny_vae(channels=4, scaling_factor=0.18215),
        text_encoder=clip_encoder(transformers.CLIPTextModel),
        tokenizer=clip_tokenizer(),
        unet=tiny_unet(attention_head_dim=4, cross_attention_dim=16),
        scheduler=diffusers.DDIMScheduler(prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _pixart(kind: Any) -> diffusers.DiffusionPipeline:
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=32,
        sample_size=LATENT,
        caption_channels=32,
        use_additional_conditions=False,
    )
    return kind(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=tiny_vae(channels=4, scaling_factor=0.13025),
        transformer=transformer,
        scheduler=diffusers.DDIMScheduler(),
    )


def _gemma_tokenizer() -> Any:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    return transformers.GemmaTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])


def _gemma() -> Gemma2Model:
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    return Gemma2Model(config).eval()


def _sana() -> diffusers.DiffusionPipeline:
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=4,
        cross_attention_head_dim=8,
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=LATENT,
    )
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )
    return diffusers.SanaPipeline(
        tokenizer=_gemma_tokenizer(),
        text_encoder=_gemma(),
        vae=vae,
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _kandinsky3() -> diffusers.DiffusionPipeline:
    unet = diffusers.Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=3,
        block_out_channels=(32, 64),
        cross_attention_dim=4,
        encoder_hid_dim=32,
    )
    movq = diffusers.VQModel(
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        in_channels=3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        out_channels=3,
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        vq_embed_dim=4,
    )
    return diffusers.Kandinsky3Pipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        unet=unet,
        scheduler=diffusers.DDPMScheduler(),
        movq=movq,
    )


def _qwen_image() -> diffusers.DiffusionPipeline:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {piece: number for number, piece in enumerate([*special, *letters])}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[])
    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=12,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=tokenizer,
        transformer=transformer,
    )


def _lumina2() -> diffusers.DiffusionPipeline:
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=LATENT,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(600, 64, 64),
        cap_feat_dim=32,
    )
    return diffusers.Lumina2Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=tiny_vae(channels=4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=_gemma(),
        tokenizer=_gemma_tokenizer(),
    )


def _aura_flow() -> diffusers.DiffusionPipeline:
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=LATENT,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    return diffusers.AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(UMT5EncoderModel),
        vae=tiny_vae(channels=4, scaling_factor=0.13025),
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


def _hunyuan_dit() -> diffusers.DiffusionPipeline:
    transformer = diffusers.HunyuanDiT2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        patch_size=2,
        sample_size=LATENT,
        hidden_size=16,
        num_layers=2,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        text_len=77,
        text_len_t5=256,
    )
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "apple"]
    tokenizer = transformers.BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    config = BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    return diffusers.HunyuanDiTPipeline(
        vae=tiny_vae(channels=4, scaling_factor=0.13025),
        text_encoder=BertModel(config).eval(),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=diffusers.DDPMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(),
    )


def _chroma() -> diffusers.DiffusionPipeline:
    transformer = diffusers.ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    return diffusers.ChromaPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=tiny_vae(channels=4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=transformer,
    )


MAKERS: dict[str, Callable[[], diffusers.DiffusionPipeline]] = {
    "sd1": lambda: _stable_diffusion("epsilon"),
    "sd2": lambda: _stable_diffusion("v_prediction"),
    "pixart_alpha": lambda: _pixart(diffusers.PixArtAlphaPipeline),
    "pixart_sigma": lambda: _pixart(diffusers.PixArtSigmaPipeline),
    "sana": _sana,
    "kandinsky3": _kandinsky3,
    "qwen_image": _qwen_image,
    "lumina2": _lumina2,
    "aura_flow": _aura_flow,
    "hunyuan_dit": _hunyuan_dit,
    "chroma": _chroma,
}
