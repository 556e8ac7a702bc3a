"""An image model small enough to export in seconds: one transformer block on 8 × 8 pixels, one random caption layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from components.artifact import seal
from components.config import ImageModel
from components.models import denoiser
from components.models.denoiser import TEXT_WIDTH, Denoiser
from components.runtimes.base import Floats

SHAPE = ImageModel(size=8, patch=4, hidden=16, layers=1, heads=2, text_tokens=4)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "apple", "dog", "heart", "rocket", "face"]
CAPTIONS = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("apple", "dog", "heart", "rocket")]


class StraightBackend:
    """A perfect model: every path leads straight to a flat picture, red for "red" and black for anything else."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode(self, prompts: Sequence[str]) -> tuple[Floats, Floats]:
        states = np.full((len(prompts), 1, 3), -1, np.float32)
        states[[prompt == "red" for prompt in prompts], 0, 0] = 1
        return states, np.ones((len(prompts), 1), np.float32)

    def velocity(self, latents_BCHW: Floats, time_B: Floats, text_BLD: Floats, mask_BL: Floats) -> Floats:
        self.batches.append(len(latents_BCHW))
        return (latents_BCHW - text_BLD[:, 0, :, None, None]) / time_B[:, None, None, None]


def write_tiny_artifact(folder: Path, broken: str = "") -> Path:
    """What the PyTorch engine needs; captions with the word `broken` are NaN, as after an overflow."""
    denoiser.save(tiny_denoiser(), folder / "denoiser")
    weights = write_tiny_encoder(folder / "encoder") / "model.safetensors"
    tensors = load_file(weights)
    if broken:
        tensors["embeddings.word_embeddings.weight"][WORDS.index(broken)] = torch.nan
    save_file(tensors, weights, {"format": "pt"})
    seal(folder, line="image", kind="export", parents={}, parameters={}, metrics={})
    return folder


def tiny_denoiser() -> Denoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Denoiser(SHAPE)
        torch.nn.init.normal_(network.transformer.proj_out.weight, std=0.2)  # or every velocity would be 0
    return network.eval()


def write_tiny_encoder(folder: Path) -> Path:
    """A folder like MiniLM's, with random weights and a vocabulary of a few words."""
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = BertModel(
            BertConfig(
                vocab_size=len(WORDS),
                hidden_size=TEXT_WIDTH,
                num_hidden_layers=1,
                num_attention_heads=4,
                intermediate_size=32,
                max_position_embeddings=32,
            ),
            add_pooling_layer=False,
        )
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder
