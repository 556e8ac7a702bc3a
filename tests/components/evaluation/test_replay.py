"""What the trained model makes of tokens that something else wrote."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from components.evaluation.replay import Answer, judged, replay
from components.models.language import load_base, prompt_batch
from tests.tiny_language import tiny_chat

PROMPTS = [[("user", "a red apple")], [("user", "rocket")]]


def test_its_own_greedy_answers_are_as_it_would_write_them_and_another_token_is_not(tiny_base: Path) -> None:
    model, chat = load_base(tiny_base, torch.float32), tiny_chat(tiny_base)
    answers = []
    for messages in PROMPTS:
        inputs = prompt_batch(chat, [messages])
        ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0].tolist()  # type: ignore[operator]
        prompt = inputs["input_ids"][0].tolist()
        answers.append(Answer(prompt, ids[len(prompt) :], ()))
    assert [each.differs_at for each in replay(model, answers, chat.pad)] == [None, None]
    other = [*answers[0].tokens]
    other[3] = (other[3] + 1) % 200
    changed = replay(model, [Answer(answers[0].prompt, other, ())], chat.pad)[0]
    assert changed.differs_at == 3 and changed.margins_T[3] > 0 and changed.margins_T[:3].max() == 0


def test_a_token_is_impossible_where_all_of_top_p_is_surely_likelier() -> None:
    logits = torch.tensor([[4.0, 3.0, 0.0, -20.0]] * 4)
    margins, log_probs, surer = judged(logits, torch.tensor([0, 1, 2, 3]), torch.ones(4), bound=0.0)
    assert margins.tolist() == [0, 1, 4, 24]
    assert log_probs.exp().sum().item() == pytest.approx(1)
    total = math.exp(4) + math.exp(3) + 1
    assert surer.tolist() == pytest.approx([0, math.exp(4) / total, 1 - 1 / total, 1], abs=1e-6)
    # What is likelier by less than rounding may move it is not surely so.
    assert judged(logits[:1], torch.tensor([1]), torch.ones(1), bound=1.5)[2].item() == 0
    assert 0.9 < judged(logits[:1], torch.tensor([2]), torch.ones(1), bound=1.5)[2].item() < surer[2].item()
