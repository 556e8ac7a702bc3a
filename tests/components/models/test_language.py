"""How a pair becomes tokens, which of them carry loss, and that adapters survive being saved and merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from components.data.pairs import Pair
from components.models.language import (
    IGNORED,
    adapted,
    add_adapter,
    collate,
    completion_loss,
    encode,
    held_out_loss,
    load_base,
    load_merged,
    load_tokenizer,
    preference_loss,
    write,
)
from components.runtimes.chat import SYSTEM_PROMPT

PAIRS = [
    Pair("draw a rocket", "rocket: space", "rocket"),
    Pair("an apple please", "red apple: fruit, food", "red apple"),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_base)


def test_loss_rests_on_the_completion_and_its_end_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    ids, labels = encode(tokenizer, PAIRS[0], max_length=256)
    learned = [label for label in labels if label != IGNORED]
    assert tokenizer.decode(learned) == "rocket: space<|im_end|>"
    prompt = tokenizer.decode(ids[: len(ids) - len(learned)])
    assert SYSTEM_PROMPT in prompt and "draw a rocket" in prompt and prompt.endswith("assistant\n")


def test_a_long_phrase_is_cut_before_its_completion(tokenizer: PreTrainedTokenizerBase) -> None:
    ids, labels = encode(tokenizer, Pair("very " * 200, "rocket", "rocket"), max_length=64)
    assert len(ids) == len(labels) == 64
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == "rocket<|im_end|>"


def test_padding_and_batching_change_no_loss(tiny_base: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    model = load_base(tiny_base, torch.float32)
    samples = [encode(tokenizer, pair, 256) for pair in PAIRS]
    alone = [completion_loss(model, collate([sample], 2)).item() for sample in samples]
    weights = [sum(label != IGNORED for label in labels) for _, labels in samples]
    mean = sum(loss * n for loss, n in zip(alone, weights, strict=True)) / sum(weights)
    assert completion_loss(model, collate(samples, 2)).item() == pytest.approx(mean, rel=1e-4)
    assert held_out_loss(model, tokenizer, PAIRS, 256, batch_size=1) == pytest.approx(mean, rel=1e-4)


def test_loss_is_the_ordinary_one_of_a_causal_model(tiny_base: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    model = load_base(tiny_base, torch.float32)
    batch = collate([encode(tokenizer, PAIRS[0], 256)], 2)
    logits_BLV = model(batch.ids_BL, attention_mask=batch.mask_BL).logits
    ordinary = functional.cross_entropy(logits_BLV[0, :-1], batch.labels_BL[0, 1:], ignore_index=IGNORED)
    assert completion_loss(model, batch).item() == pytest.approx(ordinary.item(), rel=1e-4)


def test_what_is_preferred_is_compared_by_the_odds_of_a_token(
    tiny_base: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = load_base(tiny_base, torch.float32)
    samples = [encode(tokenizer, pair, 256) for pair in PAIRS]
    liked, disliked = (torch.exp(-completion_loss(model, collate([sample], 2))) for sample in samples)
    odds_ratio = liked / (1 - liked) * (1 - disliked) / disliked
    expected = -functional.logsigmoid(torch.log(odds_ratio)).item()
    assert preference_loss(model, collate(samples, 2)).item() == pytest.approx(expected, rel=1e-3)


def test_a_merged_adapter_computes_what_the_adapter_computed(
    tiny_base: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = add_adapter(load_base(tiny_base, torch.float32), rank=4, alpha=8, dropout=0.0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    model.save_pretrained(str(tmp_path))
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["adapter_model.safetensors"]
    assert not list(tmp_path.glob("*.bin"))
    merged = load_merged(tiny_base, tmp_path, torch.float32)
    losses = [held_out_loss(m, tokenizer, PAIRS, 256) for m in (adapted(model), merged)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[1] != pytest.approx(held_out_loss(load_base(tiny_base, torch.float32), tokenizer, PAIRS, 256))


def test_equal_seeds_write_equal_text(tiny_base: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    model = load_base(tiny_base, torch.float32)

    def texts(seed: int, temperature: float) -> list[str]:
        phrases = [pair.phrase for pair in PAIRS]
        return write(model, tokenizer, phrases, max_new_tokens=8, temperature=temperature, top_p=1.0, seed=seed)

    assert texts(1, 1.5) == texts(1, 1.5) != texts(2, 1.5)
    assert texts(1, 0) == texts(2, 0)
