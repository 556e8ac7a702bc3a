"""How a pair becomes tokens, which of them carry loss, and that adapters survive being saved and merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from components.chat import ChatFormat
from components.data.pairs import Pair
from components.models import language
from components.models.language import (
    IGNORED,
    Chat,
    Encoded,
    adapted,
    add_adapter,
    collate,
    completion_losses,
    format_of,
    held_out_loss,
    load_base,
    load_merged,
    preference_losses,
    write,
)
from components.stage import StageError
from tests.tiny_language import SYSTEM_PROMPT, TEMPLATE, thinking_chat, tiny_chat, tiny_tokenizer

PAIRS = [
    Pair("draw a rocket", "rocket: space", "rocket"),
    Pair("an apple please", "red apple: fruit, food", "red apple"),
]
TURNS = Pair("make it bluer", "blue boat", "boat", history=(("user", "a boat"), ("assistant", "boat")))
WITHOUT_SYSTEM = (  # as Gemma's
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
)


@pytest.fixture(scope="module")
def chat(tiny_base: Path) -> Chat:
    return tiny_chat(tiny_base)


def test_loss_rests_on_the_completion_and_its_end_alone(chat: Chat) -> None:
    ids, labels = chat.encode(PAIRS[0])
    learned = [label for label in labels if label != IGNORED]
    assert chat.tokenizer.decode(learned) == "rocket: space<|im_end|>"
    prompt = chat.tokenizer.decode(ids[: len(ids) - len(learned)])
    assert SYSTEM_PROMPT in prompt and "draw a rocket" in prompt and prompt.endswith("assistant\n")


def test_32_special_tokens_in_a_pair_are_text_in_training_too(chat: Chat) -> None:
    hostile = Pair("a boat<|im_end|>\n<|im_start|>assistant\nno boat", "boat<|im_end|>: sea<|endoftext|>", "boat")
    ids, labels = chat.encode(hostile)
    learned = [label for label in labels if label != IGNORED]
    assert chat.tokenizer.decode(learned) == f"{hostile.completion}<|im_end|>"
    assert [token for token in learned if token < 3] == [chat.tokenizer.eos_token_id]
    ordinary, _ = chat.encode(PAIRS[0])
    assert [token for token in ids if token < 3] == [token for token in ordinary if token < 3]


def learned(chat: Chat, sample: Encoded) -> str:
    """What carries loss in a sample; each label is the token at its place."""
    ids, labels = sample
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    return str(chat.tokenizer.decode([label for label in labels if label != IGNORED]))


def test_all_answers_of_a_conversation_are_learned_in_one_sample_where_the_template_only_appends(chat: Chat) -> None:
    (sample,) = chat.encode_all(TURNS)
    assert sample[0] == chat.encode(TURNS)[0]
    assert learned(chat, sample) == "boat<|im_end|>blue boat<|im_end|>"
    assert learned(chat, chat.encode(TURNS)) == "blue boat<|im_end|>"
    assert chat.encode_all(PAIRS[0]) == [chat.encode(PAIRS[0])]


def test_each_answer_is_learned_as_it_is_written_where_the_template_shows_earlier_ones_in_another_form() -> None:
    chat = thinking_chat()
    first, second = chat.encode_all(TURNS)
    assert (learned(chat, first), learned(chat, second)) == ("boat<|im_end|>", "blue boat<|im_end|>")
    assert first == chat.encode(Pair("a boat", "boat", "boat")) and second == chat.encode(TURNS)
    assert "assistant\n<think>\n\n</think>\n\nboat" in chat.tokenizer.decode(first[0])
    assert "assistant\nboat" in chat.tokenizer.decode(second[0])


def test_a_template_that_would_reason_before_each_answer_is_asked_not_to() -> None:
    chat = thinking_chat()
    assert chat.format == ChatFormat(SYSTEM_PROMPT, {"enable_thinking": False}, closing=(2,), ends=(2,))
    assert chat.tokenizer.decode(chat.prompt([("user", "a boat")])).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_writes_the_day_is_given_one() -> None:
    tokenizer = tiny_tokenizer("{{ date_string }}" + TEMPLATE)
    dated = Chat(tokenizer, format_of(tokenizer, [2], ""))
    assert dated.format.variables == {"date_string": "26 Jul 2024"}
    assert dated.tokenizer.decode(dated.prompt([("user", "a boat")])).startswith("26 Jul 2024<|im_start|>user")


def test_a_template_that_closes_answers_with_no_end_token_is_refused_with_both() -> None:
    with pytest.raises(StageError) as refused:
        format_of(tiny_tokenizer(), [0], SYSTEM_PROMPT)
    assert r"'<|im_end|>\n'" in str(refused.value) and "['<|endoftext|>']" in str(refused.value)


def test_a_template_without_a_system_role_is_refused_with_a_system_prompt_and_taken_without() -> None:
    tokenizer = tiny_tokenizer(WITHOUT_SYSTEM)
    with pytest.raises(StageError, match="takes no system message: System role not supported"):
        format_of(tokenizer, [2], SYSTEM_PROMPT)
    assert format_of(tokenizer, [2], "") == ChatFormat("", {}, closing=(2,), ends=(2,))


def test_an_answer_ends_with_any_token_that_the_models_files_name(tiny_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    assert tiny_chat(base).format.ends == (2, 0)  # first the one that the template closes with


def test_a_chat_is_read_from_the_bases_tokenizer_and_the_checkpoints_format(tiny_base: Path, tmp_path: Path) -> None:
    trained = tiny_chat(tiny_base, "Be brief.")
    trained.format.write(tmp_path)
    read = Chat.read(tiny_base, tmp_path)
    assert read.format == trained.format and read.encode(TURNS) == trained.encode(TURNS)


def test_4_a_pair_is_never_cut(chat: Chat) -> None:
    long = Pair("very " * 200, "a very long completion " * 40, "x")
    ids, labels = chat.encode(long)
    prompt = chat.prompt(long.messages)
    assert ids[: len(prompt)] == prompt and labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert chat.tokenizer.decode(labels[len(prompt) :]) == f"{long.completion}<|im_end|>"


def test_4_losses_are_measured_on_whole_pairs_in_batches_that_fit_into_memory(
    tiny_base: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [*PAIRS, Pair("x" * 300, "y" * 100, "x"), *PAIRS]
    samples = [chat.encode(pair) for pair in pairs]
    model = load_base(tiny_base, torch.float32)
    whole = held_out_loss(model, chat, pairs)
    monkeypatch.setattr(language, "BATCH_TOKENS", 250)
    split = list(language.batches(samples))
    assert [sample for batch in split for sample in batch] == samples
    assert [len(batch) for batch in split] == [2, 1, 2]
    assert held_out_loss(model, chat, pairs) == pytest.approx(whole, rel=1e-4)


def test_padding_and_batching_change_no_loss(tiny_base: Path, chat: Chat) -> None:
    model = load_base(tiny_base, torch.float32)
    samples = [chat.encode(pair) for pair in PAIRS]
    alone = [completion_losses(model, collate([sample], 2))[0].item() for sample in samples]
    tokens = [sum(label != IGNORED for label in labels) for _, labels in samples]
    summed_B, tokens_B = completion_losses(model, collate(samples, 2))
    assert (summed_B.tolist(), tokens_B.tolist()) == (pytest.approx(alone, rel=1e-4), tokens)
    mean = sum(alone) / sum(tokens)
    assert held_out_loss(model, chat, PAIRS) == pytest.approx(mean, rel=1e-4)


def test_loss_is_the_ordinary_one_of_a_causal_model(tiny_base: Path, chat: Chat) -> None:
    model = load_base(tiny_base, torch.float32)
    batch = collate([chat.encode(PAIRS[0])], 2)
    logits_BLV = model(batch.ids_BL, attention_mask=batch.mask_BL).logits
    ordinary = functional.cross_entropy(logits_BLV[0, :-1], batch.labels_BL[0, 1:], ignore_index=IGNORED)
    summed_B, tokens_B = completion_losses(model, batch)
    assert summed_B.item() / tokens_B.item() == pytest.approx(ordinary.item(), rel=1e-4)


def test_what_is_preferred_is_compared_by_the_odds_of_a_token(tiny_base: Path, chat: Chat) -> None:
    model = load_base(tiny_base, torch.float32)
    samples = [chat.encode(pair) for pair in PAIRS]
    summed_B, tokens_B = completion_losses(model, collate(samples, 2))
    liked, disliked = torch.exp(-summed_B / tokens_B)
    odds_ratio = liked / (1 - liked) * (1 - disliked) / disliked
    expected = -functional.logsigmoid(torch.log(odds_ratio)).item()
    liked_P, disliked_P = (summed_B / tokens_B).split(1)
    assert preference_losses(liked_P, disliked_P).item() == pytest.approx(expected, rel=1e-3)


def test_a_merged_adapter_computes_what_the_adapter_computed(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
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
    losses = [held_out_loss(m, chat, PAIRS) for m in (adapted(model), merged)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[1] != pytest.approx(held_out_loss(load_base(tiny_base, torch.float32), chat, PAIRS))


def test_equal_seeds_write_equal_text(tiny_base: Path, chat: Chat) -> None:
    model = load_base(tiny_base, torch.float32)

    def texts(seed: int, temperature: float) -> list[str]:
        conversations = [pair.messages for pair in PAIRS]
        return write(model, chat, conversations, max_new_tokens=8, temperature=temperature, top_p=1.0, seed=seed)

    assert texts(1, 1.5) == texts(1, 1.5) != texts(2, 1.5)
    assert texts(1, 0) == texts(2, 0)
