"""Prompts to token ids with the `tokenizers` library alone, as the exported caption encoders expect them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from components.artifact import ArtifactError

Ids = NDArray[np.int64]


class CaptionTokenizer:
    """Every prompt becomes exactly `tokens` ids: longer ones are cut, shorter ones padded."""

    def __init__(self, path: Path, tokens: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for a missing or damaged file
            raise ArtifactError(f"{path}: not a tokenizer: {error}") from error
        self._tokenizer.encode_special_tokens = True  # a prompt that says [SEP] is text, and no end of it
        self._tokenizer.enable_truncation(max_length=tokens)
        self._tokenizer.enable_padding(length=tokens)

    def __call__(self, prompts: Sequence[str]) -> tuple[Ids, Ids]:
        """(ids_BL, mask_BL) as int64; the mask is 1 for tokens and 0 for padding."""
        encodings = self._tokenizer.encode_batch(list(prompts))
        ids = np.array([encoding.ids for encoding in encodings], np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)
        return ids, mask
