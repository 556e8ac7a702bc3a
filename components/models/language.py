"""The text model: a causal language model with a LoRA adapter, how a pair becomes tokens, the loss on its completion.

Knows PyTorch, transformers and PEFT; knows nothing of training loops, metrics or serving engines.
Shapes: B sequences, L tokens, D hidden width, N completion tokens of the whole batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from components.data.pairs import Pair
from components.runtimes.chat import Message, conversation

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


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """The chat template's text for `messages`, ending where the assistant begins to write."""
    turns = [{"role": role, "content": content} for role, content in messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def encode(tokenizer: PreTrainedTokenizerBase, pair: Pair, max_length: int) -> tuple[list[int], list[int]]:
    """Token ids and labels of one pair, cut to `max_length`; the end token belongs to the completion."""
    prompt = tokenizer.encode(render(tokenizer, conversation(pair.phrase)), add_special_tokens=False)
    completion = [*tokenizer.encode(pair.completion, add_special_tokens=False), tokenizer.eos_token_id]
    # A phrase that is too long loses its middle-most tokens before the completion loses one.
    prompt = prompt[: max(max_length - len(completion), 1)]
    ids = (prompt + completion)[:max_length]
    return ids, ([IGNORED] * len(prompt) + completion)[:max_length]


def collate(samples: Sequence[tuple[list[int], list[int]]], pad: int) -> Batch:
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


def completion_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean cross entropy (nats) over the completion tokens of the batch."""
    logits_NV, tokens_N = completion_logits(model, batch)
    return functional.cross_entropy(logits_NV, tokens_N)


def preference_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """How far the model is from preferring the batch's first half of completions to the second, row by row.

    The odds-ratio term of ORPO, equation 6 of Hong, Lee and Thorne (2024): it needs no second model as a reference.
    """
    logits_NV, tokens_N = completion_logits(model, batch)
    rows_N = (batch.labels_BL[:, 1:] != IGNORED).nonzero()[:, 0]
    summed_B = logits_NV.new_zeros(len(batch.ids_BL)).index_add(
        0, rows_N, functional.cross_entropy(logits_NV, tokens_N, reduction="none")
    )
    mean_B = -(summed_B / rows_N.bincount(minlength=len(summed_B)).clamp(min=1)).clamp(min=SURE)
    liked_P, disliked_P = (mean_B - torch.log1p(-mean_B.exp())).chunk(2)
    return -functional.logsigmoid(liked_P - disliked_P).mean()


@torch.inference_mode()
def held_out_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    max_length: int,
    batch_size: int = 16,
) -> float:
    """Cross entropy in nats per completion token over all pairs; its exponential is the perplexity."""
    total, count = 0.0, 0
    for start in range(0, len(pairs), batch_size):
        samples = [encode(tokenizer, pair, max_length) for pair in pairs[start : start + batch_size]]
        logits_NV, tokens_N = completion_logits(model, collate(samples, tokenizer.pad_token_id))
        total += functional.cross_entropy(logits_NV, tokens_N, reduction="sum").item()
        count += tokens_N.numel()
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
    batch_size: int = 16,
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
        prompts = [render(tokenizer, conversation(p)) for p in phrases[start : start + batch_size]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        ids_BL = generator.generate(**inputs, generation_config=settings)
        new_BL = ids_BL[:, inputs["input_ids"].shape[1] :]
        written += [text.strip() for text in tokenizer.batch_decode(new_BL, skip_special_tokens=True)]
    return written
