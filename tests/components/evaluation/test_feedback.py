"""Held-out users' likes as a test of the model: it must rank what it learned above what it did not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from components.config import load
from components.data.pairs import Pair
from components.evaluation import feedback
from components.models.language import load_base
from components.training.lengths import fitting
from components.training.text import train
from tests.tiny_language import tiny_chat


def test_a_model_trained_on_what_is_liked_ranks_it_first(tiny_base: Path, tmp_path: Path) -> None:
    liked = [Pair(f"draw {what}", f"{what}: nice", what, learned=True) for what in ("dog", "car", "boat")]
    disliked = [Pair(pair.phrase, "zzz qqq", "x") for pair in liked]
    answers = [(pair, True) for pair in liked] + [(pair, False) for pair in disliked]
    settings = load().train.text.model_copy(update={"max_steps": 40, "learning_rate": 0.02, "batch_size": 3})
    chat = tiny_chat(tiny_base)
    model, _ = train(
        tiny_base, chat, fitting(chat, liked, settings, 512).samples, settings, state_dir=tmp_path, key="k"
    )
    before, after = (
        feedback.score(load_base(tiny_base, torch.float32), chat, answers),
        feedback.score(model.base_model.model, chat, answers),
    )
    assert after["ranking"] == 1.0 and after["loss_liked"] < before["loss_liked"]


def test_likes_alone_rank_nothing(tiny_base: Path) -> None:
    row = feedback.score(load_base(tiny_base, torch.float32), tiny_chat(tiny_base), [(Pair("a", "b", "b"), True)])
    assert row["ranking"] is None and row["loss_liked"] > 0


def test_before_anything_was_learned_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    feedback.main()
    assert json.loads(Path("metrics/text/feedback.json").read_text()) == {"answers": 0, "users": 0}
