"""How a pair becomes tokens, which of them carry loss, and that adapters survive being saved and merged."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from components.chat import ChatFormat
from components.data.pairs import Pair
from components.models import language
from components.models.language import (
    IGNORED,
    Batch,
    Chat,
    Encoded,
    Packed,
    adapted,
    add_adapter,
    batches,
    beside,
    collate,
    completion_losses,
    format_of,
    held_out_loss,
    load_base,
    load_merged,
    pack,
    preference_losses,
    write,
)
from components.stage import StageError
from components.training.text import save
from tests.tiny_language import SYSTEM_PROMPT, TEMPLATE, thinking_chat, tiny_chat, tiny_tokenizer

PAIRS = [
    Pair("draw a rocket", "rocket: space", "rocket"),
    Pair("an apple please", "red apple: fruit, food", "red apple"),
]
TURNS = Pair("make it bluer", "blue boat", "boat", history=(("user", "a boat"), ("assistant", "boat")))
MIXTURE = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16}
MIXTURE |= {"num_key_value_heads": 1, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
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


def conversation(rng: random.Random) -> Pair:
    """One of up to five turns, whose answers are different words, some with reasoning, breaks or special tokens."""
    said = [("system", "Be brief.")] if rng.random() < 0.5 else []
    for number in range(rng.randrange(5)):
        odd = rng.choice(["", "\n", "<think>because</think>\n", "<|im_end|>", " "])
        said += [("user", f"{odd}question {number}"), ("assistant", f"{odd}answer {number}{odd}")]
    places = [place for place, (role, _) in enumerate(said) if role == "assistant"]
    untaught = tuple(place for place in places if rng.random() < 0.3)
    return Pair("the last", "the end", "x", history=tuple(said), untaught=untaught)


@pytest.mark.parametrize("template", ["appends", "thinks"])
@pytest.mark.parametrize("answers", ["all", "last"])
def test_each_answer_is_taught_once_after_the_prompt_that_it_has_in_service(
    template: str, answers: Literal["all", "last"], chat: Chat
) -> None:
    chat = thinking_chat() if template == "thinks" else chat
    for seed in range(40):
        pair = conversation(random.Random(seed))
        earlier = pair.answers if answers == "all" else []
        wanted = [(chat.prompt(m), chat.answer(text)) for m, text in [*earlier, (pair.messages, pair.completion)]]
        found = []
        for ids, labels in chat.encode_all(pair, answers):
            assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
            starts = [at for at in range(1, len(ids)) if labels[at] != IGNORED == labels[at - 1]]
            ends = [at for at in range(1, len(ids)) if labels[at] == IGNORED != labels[at - 1]]
            found += [(ids[:start], ids[start:end]) for start, end in zip(starts, [*ends, len(ids)], strict=True)]
        assert found == wanted


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_packed_samples_have_the_losses_and_gradients_of_samples_one_by_one(family: str) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 16}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape))
    generator = random.Random(0)
    rows = [[generator.randrange(99) for _ in range(length)] for length in (5, 31, 9, 12, 4, 20, 3)]
    samples: list[Encoded] = [(ids, [IGNORED] * 2 + ids[2:]) for ids in rows]

    def gradients(batch: Batch | Packed) -> tuple[list[float], list[torch.Tensor]]:
        model.zero_grad()
        summed_S, tokens_S = completion_losses(model, batch)
        (summed_S / tokens_S).sum().backward()
        return summed_S.tolist(), [p.grad.clone() for p in model.parameters()]

    batch = pack(samples, 0)
    assert batch.ids_BL.shape == (3, 31) and sorted(batch.labels_BL[batch.labels_BL != IGNORED].tolist()) == sorted(
        label for _, labels in samples for label in labels if label != IGNORED
    )
    packed, packed_gradients = gradients(batch)
    alone = [gradients(collate([sample], 0)) for sample in samples]
    assert packed == pytest.approx([losses[0] for losses, _ in alone], rel=1e-5)
    for found, *each in zip(packed_gradients, *(grads for _, grads in alone), strict=True):
        assert torch.allclose(found, torch.stack(each).sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "qwen3_moe"])
def test_adapters_reach_every_linear_layer_whatever_it_is_called_and_merge(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = MIXTURE if family == "qwen3_moe" else {"vocab_size": 99, "n_embd": 32, "n_layer": 1, "n_head": 2}
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape))
    base.save_pretrained(tmp_path / "base")
    model = add_adapter(base, rank=2, alpha=4, dropout=0.0)
    frozen = {name for name, p in model.named_parameters() if p.dim() > 1 and "lora" not in name}
    adapted_weights = {name for name in frozen if "base_layer" in name}
    assert all("wte" in n or "wpe" in n or "embed" in n or "lm_head" in n for n in frozen - adapted_weights)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    save(model, tmp_path / "adapter")
    merged = load_merged(tmp_path / "base", tmp_path / "adapter", torch.float32)
    ids = torch.arange(8)[None]
    assert torch.allclose(model.eval()(ids).logits, merged(ids).logits, atol=1e-5)


def test_dora_for_a_mixture_is_refused_in_words() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_moe", **MIXTURE))
    with pytest.raises(StageError, match=r"dora .* does not go with a model of the family qwen3_moe"):
        add_adapter(model, rank=2, alpha=4, dropout=0.0, dora=True)


def test_a_tokenizer_without_a_padding_token_pads_with_the_end_and_the_end_is_learned(chat: Chat) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    unpadded = Chat(tokenizer, chat.format)
    samples = [unpadded.encode(pair) for pair in PAIRS]
    batch = collate(samples, unpadded.pad)
    assert unpadded.pad == chat.format.closing[-1]
    assert all(labels[-1] == unpadded.pad for _, labels in samples)
    assert (batch.labels_BL == unpadded.pad).sum() == len(PAIRS)  # those of padding carry no loss


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


def test_a_batch_is_brought_to_where_the_model_is(tiny_base: Path) -> None:
    """As to a GPU, on which a quantised model is from the beginning; `meta` is a device that every machine has."""
    elsewhere = load_base(tiny_base, torch.float32).to("meta")
    samples = [([1, 50, 60], [IGNORED, 50, 60])]
    for batch in (collate(samples, 2), pack(samples, 2)):
        moved = beside(elsewhere, batch)
        assert {part.device.type for part in moved if isinstance(part, torch.Tensor)} == {"meta"}
        assert moved.samples == batch.samples


def test_a_large_vocabulary_has_fewer_tokens_at_a_time() -> None:
    samples = [([1] * 512, [IGNORED] * 512)] * 16
    for vocabulary, size in ((259, 8), (49152, 8), (4 * 49152, 2)):
        assert {len(batch) for batch in batches(samples, vocabulary=vocabulary)} == {size}
