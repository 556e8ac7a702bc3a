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


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        CaptionTokenizer(tmp_path / "tokenizer.json", 4)
