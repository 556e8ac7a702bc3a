"""Captions as the image line sees them: MiniLM's hidden state of each of a caption's first tokens.

The empty caption is the unconditional one. Frozen: nothing here is trained. Also the sentence embedding (mean of the
states, unit length) with which prompts and pictures' names are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BatchEncoding
from transformers.utils import logging

from components.paths import ENCODER
from components.stage import StageError

BATCH = 64  # captions encoded at a time: 1.4 times as fast as 256, whose states leave the cache


class TextEncoder:
    """all-MiniLM-L6-v2 (Apache-2.0): `encode` gives states of `tokens` positions, `embed` one vector per text."""

    def __init__(self, folder: Path = ENCODER, tokens: int = 12) -> None:
        if not (folder / "model.safetensors").is_file():
            raise StageError(f"{folder}: no MiniLM weights; run `python -m components.data.fetch`")
        self.tokens = tokens
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # or it reports the pooling layer, which is left out on purpose
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, add_pooling_layer=False
        ).eval()
        logging.set_verbosity(verbosity)

    @torch.inference_mode()
    def encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(states_BLD float32, mask_BL bool) with L = `tokens`: longer captions are cut, shorter ones padded."""
        states, masks = [], []
        for start in range(0, len(captions), BATCH):
            tokens = self._tokens(captions[start : start + BATCH], self.tokens, padding="max_length")
            states.append(self.model(**tokens).last_hidden_state)
            masks.append(tokens["attention_mask"].bool())
        return torch.cat(states), torch.cat(masks)

    def cut(self, captions: Sequence[str]) -> int:
        """How many captions have more than `tokens` tokens, so that nobody learns from their ends."""
        ids = self.tokenizer(
            list(captions), truncation=True, max_length=self.tokens + 1, split_special_tokens=True
        ).input_ids
        return sum(len(caption) > self.tokens for caption in ids)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Sentence embeddings BD of unit length; the cosine of two is their dot product."""
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # a batch is padded to its longest text
        vectors = []
        for start in range(0, len(texts), BATCH):
            tokens = self._tokens([texts[i] for i in by_length[start : start + BATCH]], 128, padding="longest")
            mask_BL1 = tokens["attention_mask"].unsqueeze(-1)
            states_BLD = self.model(**tokens).last_hidden_state
            vectors.append((states_BLD * mask_BL1).sum(1) / mask_BL1.sum(1))
        in_order_BD = torch.cat(vectors)[torch.tensor(by_length).argsort()]
        return torch.nn.functional.normalize(in_order_BD, dim=-1)

    def _tokens(self, texts: Sequence[str], length: int, padding: str) -> BatchEncoding:
        """Special tokens mark a text's ends; in it they are ordinary letters, as in `CaptionTokenizer`."""
        return self.tokenizer(
            list(texts),
            padding=padding,
            truncation=True,
            max_length=length,
            split_special_tokens=True,
            return_tensors="pt",
        )
