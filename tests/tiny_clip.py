"""A CLIP and a SigLIP model small enough for tests: random weights, a vocabulary of letters."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from tests.tiny_pipelines import clip_tokenizer, t5_tokenizer

SIDES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = SIDES | {"image_size": 32, "patch_size": 8}


def write_tiny_clip(folder: Path) -> Path:
    text = SIDES | {"vocab_size": 520, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    model.save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return folder


def write_tiny_siglip(folder: Path) -> Path:
    """As SigLIP's first version comes: its tokenizer's class wants sentencepiece."""
    text = SIDES | {"vocab_size": 64, "max_position_embeddings": 16, "projection_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
        model.logit_scale.data.fill_(2.0)
        model.logit_bias.data.fill_(-1.0)
    model.save_pretrained(folder)
    t5_tokenizer().save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "SiglipTokenizer"}))
    return folder
