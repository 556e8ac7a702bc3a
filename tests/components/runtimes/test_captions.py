"""Exported encoders see the same tokens as the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.artifact import ArtifactError
from components.models.text_encoder import TextEncoder
from components.runtimes.captions import CaptionTokenizer

PROMPTS = ["", "red apple", "Blue dog, red heart: rocket face", "unknown ☃"]


def test_ids_are_those_of_the_reference_tokenizer(tiny_encoder: Path) -> None:
    ids, mask = CaptionTokenizer(tiny_encoder / "tokenizer.json", 4)(PROMPTS)
    expected = TextEncoder(tiny_encoder, 4).tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=4)
    assert np.array_equal(ids, expected["input_ids"])
    assert np.array_equal(mask, expected["attention_mask"])


def test_32_a_special_token_in_a_caption_is_text_in_training_and_in_serving(tiny_encoder: Path) -> None:
    hostile = ["[SEP] red apple [MASK]", "[PAD] red [CLS]"]
    ids, mask = CaptionTokenizer(tiny_encoder / "tokenizer.json", 16)(hostile)
    reference = TextEncoder(tiny_encoder, 16)
    assert np.array_equal(ids, reference._tokens(hostile, 16, padding="max_length")["input_ids"])
    begin, end, padding = reference.tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]", "[PAD]"])
    for row, length in zip(ids.tolist(), mask.sum(1).tolist(), strict=True):
        assert (row[0], row[length - 1]) == (begin, end)
        assert not {begin, end, padding} & {*row[1 : length - 1]}


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        CaptionTokenizer(tmp_path / "tokenizer.json", 4)
