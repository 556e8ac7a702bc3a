"""A CLIP model small enough for tests: random weights, a vocabulary of letters."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

from tests.tiny_pipelines import clip_tokenizer


def write_tiny_clip(folder: Path) -> Path:
    sides = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sides | {"vocab_size": 520, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    vision = sides | {"image_size": 32, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return folder
