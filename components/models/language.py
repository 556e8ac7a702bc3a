"""The text model: a causal language model with a LoRA adapter, how a pair becomes tokens, the loss on its completion.

Knows PyTorch, transformers and PEFT; knows nothing of training loops, metrics or serving engines.
Shapes: B sequences, L tokens, D hidden width, N completion tokens of the whole batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from components.chat import ChatEncoder, Turn, conversation
from components.data.pairs import Pair
from components.stage import StageError

Encoded = tuple[list[int], list[int]]  # token ids and labels of a pair
BATCH_ROWS, BATCH_TOKENS = 16, 4096  # where a loss is measured: 0.8 GB of logits at the most, in float32

SURE = 1e-4  # nats per token, below which odds are not told apart: those of a certain completion are infinite
IGNORED = -100  # label of tokens that carry no loss, as in PyTorch's cross entropy
# LoRA on every linear layer of the decoder, not on attention alone: "LoRA Without Regret" finds the MLP matters most.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Batch(NamedTuple):
    """Right-padded `ids_BL`, `mask_BL` (1 = token) and `labels_BL` (`IGNORED` outside the completion)."""

    ids_BL: Tensor
    mask_BL: Tensor
    labels_BL: Tensor


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def load_base(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The base model in evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True).eval()


def add_adapter(model: PreTrainedModel, *, rank: int, alpha: int, dropout: float) -> PeftModel:
    """`model` with fresh, trainable LoRA matrices; everything else is frozen."""
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(TARGETS), task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def adapted(model: PeftModel) -> PreTrainedModel:
    """The causal model whose linear layers the adapter wraps: it runs with the adapter, without PEFT's shell."""
    return cast(PreTrainedModel, model.get_base_model())


def load_merged(base: Path, adapter: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The base model with the trained adapter folded into its weights (in fp32, then cast): an ordinary model again."""
    tuned = PeftModel.from_pretrained(load_base(base, torch.float32), str(adapter))
    return tuned.merge_and_unload().to(dtype).eval()


@lru_cache(maxsize=8)
def chat_encoder(tokenizer: PreTrainedTokenizerBase) -> ChatEncoder:
    """How a tokenizer's chat template and its encoder make tokens of messages."""

    def render(turns: list[Turn]) -> str:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def encode(text: str) -> list[int]:
        return cast(list[int], tokenizer.encode(text, add_special_tokens=False))

    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return ChatEncoder(render, encode, special)


def prompt_batch(tokenizer: PreTrainedTokenizerBase, phrases: Sequence[str]) -> dict[str, Tensor]:
    """The prompts that ask for each phrase's completion, padded on the left, as arguments of `generate`."""
    prompts = [chat_encoder(tokenizer).prompt(conversation(phrase)) for phrase in phrases]
    padded = tokenizer.pad({"input_ids": prompts}, padding=True, padding_side="left", return_tensors="pt")
    return {name: padded[name] for name in ("input_ids", "attention_mask")}


def encode(tokenizer: PreTrainedTokenizerBase, pair: Pair) -> Encoded:
    """Token ids and labels of one pair, whole however long it is; the end token belongs to the completion."""
    prompt = chat_encoder(tokenizer).prompt(conversation(pair.phrase))
    completion = [*chat_encoder(tokenizer).text(pair.completion), tokenizer.eos_token_id]
    return prompt + completion, [IGNORED] * len(prompt) + completion


def fitting(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], max_length: int) -> list[Pair]:
    """The pairs that have at most `max_length` tokens, with the completion and with what was disliked instead.

    The others are left out whole and said so in one line; raises `StageError` where none is left.
    """
    lengths = [
        max(len(encode(tokenizer, replace(pair, completion=text))[0]) for text in {pair.completion, pair.rejected})
        for pair in pairs
    ]
    fit = [pair for pair, length in zip(pairs, lengths, strict=True) if length <= max_length]
    if not fit:
        raise StageError(
            f"none of {len(pairs)} pairs has at most {max_length} tokens, its prompt included (the shortest has "
            f"{min(lengths, default=0)}); raise max_length under train.text"
        )
    if over := len(pairs) - len(fit):
        print(
            f"{over} of {len(pairs)} pairs are left out: their prompt and completion have more than {max_length} "
            f"tokens (the longest has {max(lengths)}); to learn from them raise max_length under train.text",
            flush=True,
        )
    return fit


def batches(samples: Sequence[Encoded]) -> Iterator[list[Encoded]]:
    """`samples` in order, `BATCH_ROWS` at a time, fewer where they are long: a batch's logits must fit into memory."""
    batch: list[Encoded] = []
    for sample in samples:
        longest = max(len(ids) for ids, _ in [*batch, sample])
        if batch and (len(batch) == BATCH_ROWS or longest * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def collate(samples: Sequence[Encoded], pad: int) -> Batch:
    """Pad encoded pairs on the right to the longest of them."""
    length = max(len(ids) for ids, _ in samples)
    ids = [row + [pad] * (length - len(row)) for row, _ in samples]
    mask = [[1] * len(row) + [0] * (length - len(row)) for row, _ in samples]
    labels = [row + [IGNORED] * (length - len(row)) for _, row in samples]
    return Batch(torch.tensor(ids), torch.tensor(mask), torch.tensor(labels))


def completion_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Float32 logits_NV that predict each completion token, and the tokens_N they should predict.

    The vocabulary's matrix is a fifth of a small model's work: it is applied to these positions and to no other.
    """
    hidden_BLD = model.get_decoder()(input_ids=batch.ids_BL, attention_mask=batch.mask_BL).last_hidden_state
    predicts_BL = batch.labels_BL[:, 1:] != IGNORED
    logits_NV = model.get_output_embeddings()(hidden_BLD[:, :-1][predicts_BL])
    return logits_NV.float(), batch.labels_BL[:, 1:][predicts_BL]


def completion_losses(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Each row's cross entropy (nats) summed over its completion, and the number of tokens in that."""
    logits_NV, tokens_N = completion_logits(model, batch)
    losses_N = functional.cross_entropy(logits_NV, tokens_N, reduction="none")
    rows_N = (batch.labels_BL[:, 1:] != IGNORED).nonzero()[:, 0]
    summed_B = losses_N.new_zeros(len(batch.ids_BL)).index_add(0, rows_N, losses_N)
    return summed_B, rows_N.bincount(minlength=len(summed_B))


def preference_losses(liked_P: Tensor, disliked_P: Tensor) -> Tensor:
    """How far the model is from preferring each liked completion to the disliked one, given their losses per token.

    The odds-ratio term of ORPO, equation 6 of Hong, Lee and Thorne (2024): it needs no second model as a reference.
    """
    return -functional.logsigmoid(_log_odds(liked_P) - _log_odds(disliked_P))


def _log_odds(losses_P: Tensor) -> Tensor:
    log_likelihoods_P = -losses_P.clamp(min=SURE)
    return log_likelihoods_P - torch.log1p(-log_likelihoods_P.exp())


@torch.inference_mode()
def held_out_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
) -> float:
    """Cross entropy in nats per completion token over all pairs; its exponential is the perplexity."""
    total, count = 0.0, 0
    for samples in batches([encode(tokenizer, pair) for pair in pairs]):
        summed_B, tokens_B = completion_losses(model, collate(samples, tokenizer.pad_token_id))
        total += summed_B.sum().item()
        count += int(tokens_B.sum())
    return total / count


@torch.inference_mode()
def write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    phrases: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    batch_size: int = 64,
) -> list[str]:
    """The picture prompt the model writes for each phrase; temperature 0 is greedy; equal seeds write equal text."""
    torch.manual_seed(seed)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature or None,
        top_p=top_p if temperature else None,
        top_k=0 if temperature else None,  # transformers' default of 50 would bend the distribution
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    generator: Any = model  # PreTrainedModel does not declare `generate`; every causal model has it
    written: list[str] = []
    for start in range(0, len(phrases), batch_size):
        inputs = prompt_batch(tokenizer, phrases[start : start + batch_size])
        ids_BL = generator.generate(**inputs, generation_config=settings)
        new_BL = ids_BL[:, inputs["input_ids"].shape[1] :]
        written += tokenizer.batch_decode(new_BL, skip_special_tokens=True)
    return written
