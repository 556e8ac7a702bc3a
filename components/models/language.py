"""The text model: a causal language model with a LoRA adapter, how a conversation becomes tokens, the loss on answers.

Knows PyTorch, transformers and PEFT; knows nothing of training loops, metrics or serving engines.
Shapes: B sequences, L tokens, D hidden width, N completion tokens of the whole batch, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jinja2 import TemplateError
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from components.chat import MARKS, ChatEncoder, ChatFormat, Message, Turn
from components.data.pairs import Pair
from components.stage import StageError

Encoded = tuple[list[int], list[int]]  # token ids and labels of a pair
BATCH_ROWS, BATCH_TOKENS = 16, 4096  # where a loss is measured: 0.8 GB of logits at the most, in float32

SURE = 1e-4  # nats per token, below which odds are not told apart: those of a certain completion are infinite
IGNORED = -100  # label of tokens that carry no loss, as in PyTorch's cross entropy
# LoRA on every linear layer but the output's, whatever they are called, not on attention alone: "LoRA Without Regret"
# finds that the MLP matters most.
TARGETS = "all-linear"
# Values of variables that templates read, tried in turn until an answer stands where the prompt for it ends.
VARIABLES: tuple[dict[str, Any], ...] = ({}, {"enable_thinking": False})
DATE = {"date_string": "26 Jul 2024"}  # for templates that would write the day's, so that a model trains on tomorrow's


class Batch(NamedTuple):
    """Right-padded `ids_BL`, `mask_BL` (1 = token) and `labels_BL` (`IGNORED` outside the completion)."""

    ids_BL: Tensor
    mask_BL: Tensor
    labels_BL: Tensor


class Chat:
    """A model's tokenizer and format: conversations to token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, format: ChatFormat) -> None:
        self.tokenizer, self.format = tokenizer, format
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._encoder = ChatEncoder(partial(render, tokenizer, format.variables), self._ids, special)

    @classmethod
    def read(cls, tokenizer: Path, format: Path) -> Chat:
        """From a folder with a tokenizer and one with a `ChatFormat`."""
        return cls(AutoTokenizer.from_pretrained(tokenizer), ChatFormat.read(format))

    @classmethod
    def of_base(cls, folder: Path, system_prompt: str) -> Chat:
        """Of a base model; raises `StageError` where its template and its end tokens do not fit together."""
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(tokenizer, format_of(tokenizer, end_tokens(folder, tokenizer), system_prompt))

    @property
    def pad(self) -> int:
        """What rows are padded with; no loss is taken there and nothing attends to it."""
        return self.format.ends[0] if self.tokenizer.pad_token_id is None else int(self.tokenizer.pad_token_id)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """What the model reads before it answers, the system prompt included."""
        return self._encoder.prompt(self.format.messages(messages))

    def answer(self, text: str) -> list[int]:
        """What the model writes as an answer, to the end."""
        return [*self._encoder.text(text), *self.format.closing]

    def text(self, text: str) -> list[int]:
        return self._encoder.text(text)

    def encode(self, pair: Pair) -> Encoded:
        """A pair whole, however long it is, with labels on its completion alone."""
        prompt, written = self.prompt(pair.messages), self.answer(pair.completion)
        return prompt + written, [IGNORED] * len(prompt) + written

    def encode_all(self, pair: Pair) -> list[Encoded]:
        """A pair with labels on every answer in it: as one sample where the template only appends, else as several.

        Templates that leave something out of earlier answers, such as the reasoning, show them to the model in another
        form than it writes them in.
        """
        samples: list[Encoded] = []
        answers = [(pair.messages[:at], text) for at, (role, text) in enumerate(pair.messages) if role == "assistant"]
        for messages, text in [*answers, (pair.messages, pair.completion)]:
            prompt, written = self.prompt(messages), self.answer(text)
            taught: list[int] = []
            if samples and prompt[: len(samples[-1][0])] == samples[-1][0]:
                taught = samples.pop()[1]
            samples.append((prompt + written, taught + [IGNORED] * (len(prompt) - len(taught)) + written))
        return samples

    def _ids(self, text: str) -> list[int]:
        return cast(list[int], self.tokenizer.encode(text, add_special_tokens=False))


def render(
    tokenizer: PreTrainedTokenizerBase, variables: dict[str, Any], turns: list[Turn], generate: bool = True
) -> str:
    """The template's text, up to where the assistant begins to write with `generate`."""
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generate, **variables))


def end_tokens(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens after which the model's own files say that an answer is over."""
    files = [
        json.loads(path.read_bytes())
        for name in ("generation_config.json", "config.json")
        if (path := folder / name).is_file()
    ]
    named = [tokenizer.eos_token_id, *(file.get("eos_token_id") for file in files)]
    ends = [end for ids in named if ids is not None for end in (ids if isinstance(ids, list) else [ids])]
    return list(dict.fromkeys(ends))


def format_of(tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], system_prompt: str) -> ChatFormat:
    """How the template ends an answer, by asking it; raises `StageError` where none of the `ends` does."""
    answer = chr(MARKS[0])
    turns = [{"role": "system", "content": system_prompt}] if system_prompt else []
    turns += [{"role": "user", "content": "?"}]
    date = DATE if "date_string" in str(tokenizer.chat_template) else {}
    closing = ""
    for variables in ({**date, **tried} for tried in VARIABLES):
        try:
            prompt = render(tokenizer, variables, turns)
            whole = render(tokenizer, variables, [*turns, {"role": "assistant", "content": answer}], generate=False)
        except TemplateError as error:
            raise StageError(
                f"the model's chat template takes no {'system ' * bool(system_prompt)}message: {error}"
            ) from error
        if not whole.startswith(prompt + answer):
            continue
        closing = whole.removeprefix(prompt + answer)
        ids = cast(list[int], tokenizer.encode(closing, add_special_tokens=False))
        if end := next((at for at, token in enumerate(ids, start=1) if token in ends), 0):
            return ChatFormat(
                system_prompt, variables, tuple(ids[:end]), (ids[end - 1], *sorted(set(ends) - {ids[end - 1]}))
            )
    words = tokenizer.convert_ids_to_tokens(list(ends))
    raise StageError(
        f"the model's chat template ends an answer with {closing!r}, its end tokens are {words}: nothing would end "
        "what it writes; correct eos_token_id in its generation_config.json"
    )


def load_base(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The base model in evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True).eval()


def add_adapter(model: PreTrainedModel, *, rank: int, alpha: int, dropout: float) -> PeftModel:
    """`model` with fresh, trainable LoRA matrices; everything else is frozen."""
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=TARGETS, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def adapted(model: PeftModel) -> PreTrainedModel:
    """The causal model whose linear layers the adapter wraps: it runs with the adapter, without PEFT's shell."""
    return cast(PreTrainedModel, model.get_base_model())


def load_merged(base: Path, adapter: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The base model with the trained adapter folded into its weights (in fp32, then cast): an ordinary model again."""
    tuned = PeftModel.from_pretrained(load_base(base, torch.float32), str(adapter))
    return tuned.merge_and_unload().to(dtype).eval()


def fitting(chat: Chat, pairs: Sequence[Pair], max_length: int) -> list[Pair]:
    """The pairs that have at most `max_length` tokens, with the completion and with what was disliked instead.

    The others are left out whole and said so in one line; raises `StageError` where none is left.
    """
    lengths = [
        max(len(chat.encode(replace(pair, completion=text))[0]) for text in {pair.completion, pair.rejected})
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


def batches(samples: Sequence[Encoded], rows: int = BATCH_ROWS) -> Iterator[list[Encoded]]:
    """`samples` in order, `rows` at a time, fewer where they are long: a batch's logits must fit into memory."""
    batch: list[Encoded] = []
    for sample in samples:
        longest = max(len(ids) for ids, _ in [*batch, sample])
        if batch and (len(batch) == rows or longest * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def prompt_batch(chat: Chat, conversations: Sequence[Sequence[Message]]) -> dict[str, Tensor]:
    """The prompts that ask for an answer, padded on the left, as arguments of `generate`."""
    prompts = [chat.prompt(messages) for messages in conversations]
    length = max(map(len, prompts))
    ids = [[chat.pad] * (length - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


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
    chat: Chat,
    pairs: Sequence[Pair],
) -> float:
    """Cross entropy in nats per completion token over all pairs; its exponential is the perplexity."""
    total, count = 0.0, 0
    for samples in batches([chat.encode(pair) for pair in pairs]):
        summed_B, tokens_B = completion_losses(model, collate(samples, chat.pad))
        total += summed_B.sum().item()
        count += int(tokens_B.sum())
    return total / count


@torch.inference_mode()
def write(
    model: PreTrainedModel,
    chat: Chat,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    batch_size: int = 64,
) -> list[str]:
    """What the model answers in each conversation; temperature 0 is greedy; equal seeds write equal text."""
    torch.manual_seed(seed)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature or None,
        top_p=top_p if temperature else None,
        top_k=0 if temperature else None,  # transformers' default of 50 would bend the distribution
        eos_token_id=list(chat.format.ends),
        pad_token_id=chat.pad,
    )
    generator: Any = model  # PreTrainedModel does not declare `generate`; every causal model has it
    written: list[str] = []
    for start in range(0, len(conversations), batch_size):
        inputs = prompt_batch(chat, conversations[start : start + batch_size])
        ids_BL = generator.generate(**inputs, generation_config=settings)
        new_BL = ids_BL[:, inputs["input_ids"].shape[1] :]
        written += chat.tokenizer.batch_decode(new_BL, skip_special_tokens=True)
    return written
