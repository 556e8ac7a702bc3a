"""The text model: a causal language model, its LoRA adapter, how a conversation becomes tokens, the loss on answers.

Knows PyTorch, transformers and PEFT; knows nothing of training loops, metrics or serving engines.
Shapes: B sequences, L tokens, D hidden width, N completion tokens of the whole batch, V vocabulary.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

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
# Where a loss is measured: 0.8 GB of logits at the most, in float32. A larger vocabulary has fewer tokens at a time.
BATCH_ROWS, BATCH_TOKENS, BATCH_VOCABULARY = 16, 4096, 49152

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

    @property
    def attention(self) -> dict[str, Any]:
        """What the model is told beside the tokens."""
        return {"attention_mask": self.mask_BL}

    @property
    def samples(self) -> int:
        return len(self.ids_BL)


class Packed(NamedTuple):
    """Several samples in each row, one after the other; `positions_BL` begin at 0 with each of them.

    That is how transformers knows where a sample ends, so that no token attends to another sample's. It looks at
    positions only where it is given no mask and no cache.
    """

    ids_BL: Tensor
    positions_BL: Tensor
    labels_BL: Tensor
    numbers_BL: Tensor  # which sample each token is of
    samples: int

    @property
    def attention(self) -> dict[str, Any]:
        return {"position_ids": self.positions_BL, "use_cache": False}


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

    def encode_all(self, pair: Pair, answers: Literal["all", "last"] = "all") -> list[Encoded]:
        """A pair with labels on every answer in it, or on the last: one sample where the template only appends.

        Templates that leave something out of earlier answers, such as the reasoning, show them to the model in another
        form than it writes them in: there each answer is a sample, after the prompt that it is given in service. An
        answer of `pair.untaught` carries no label.
        """
        samples: list[Encoded] = []
        for messages, text in [*(pair.answers if answers == "all" else ()), (pair.messages, pair.completion)]:
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


def load_quantised(folder: Path) -> PreTrainedModel:
    """The base model on a GPU with its linear layers in 4 bits (NF4, QLoRA), ready for an adapter to be trained."""
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    device = torch.device("cuda", torch.cuda.current_device())
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, use_safetensors=True, quantization_config=nf4, device_map={"": device}
    )
    return cast(PreTrainedModel, prepare_model_for_kbit_training(model, use_gradient_checkpointing=False))


def add_adapter(model: PreTrainedModel, *, rank: int, alpha: int, dropout: float, dora: bool = False) -> PeftModel:
    """`model` with fresh, trainable LoRA matrices (DoRA's magnitudes too); everything else is frozen.

    Raises `StageError` for what PEFT has no such adapter for, as DoRA for the experts of a mixture.
    """
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, use_dora=dora, target_modules=TARGETS, task_type="CAUSAL_LM"
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to False")  # PEFT sets it for GPT-2's layers
            warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys")  # of mixtures: untrue
            return get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        kind = f"{'dora' if dora else 'lora'} with lora_dropout {dropout:g}"
        raise StageError(
            f"train.text: {kind} does not go with a model of the family {model.config.model_type}: {error}; "
            "set adapter: lora and lora_dropout: 0.0"
        ) from error


def adapted(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The causal model whose linear layers the adapter wraps: it runs with the adapter, without PEFT's shell."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


def load_merged(base: Path, checkpoint: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The fine-tuned model: the base with the trained adapter folded into its weights (in fp32, then cast), an ordinary
    model again; or the checkpoint's own weights, where all of them were trained."""
    if not (checkpoint / "adapter_config.json").exists():
        return load_base(checkpoint, dtype)
    tuned = PeftModel.from_pretrained(load_base(base, torch.float32), str(checkpoint))
    return tuned.merge_and_unload().to(dtype).eval()


def vocabulary_of(model: PreTrainedModel) -> int:
    return int(model.get_output_embeddings().weight.shape[0])


def batches(
    samples: Sequence[Encoded], rows: int = BATCH_ROWS, *, vocabulary: int = BATCH_VOCABULARY
) -> Iterator[list[Encoded]]:
    """`samples` in order, `rows` at a time, fewer where they or the vocabulary are large: a batch's logits must fit
    into memory."""
    most = BATCH_TOKENS * BATCH_VOCABULARY // max(vocabulary, BATCH_VOCABULARY)
    batch: list[Encoded] = []
    for sample in samples:
        longest = max(len(ids) for ids, _ in [*batch, sample])
        if batch and (len(batch) == rows or longest * (len(batch) + 1) > most):
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


def pack(samples: Sequence[Encoded], pad: int, length: int = 0) -> Packed:
    """Encoded pairs in rows of `length` tokens, at least the longest's: the longest first, each where it still fits."""
    length = max(length, *(len(ids) for ids, _ in samples))
    rows: list[list[int]] = []
    free: list[int] = []
    for number in sorted(range(len(samples)), key=lambda number: -len(samples[number][0])):
        needed = len(samples[number][0])
        row = next((row for row, room in enumerate(free) if room >= needed), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(length)
        rows[row].append(number)
        free[row] -= needed
    ids, positions, labels, numbers = (torch.full((len(rows), length), filler) for filler in (pad, 0, IGNORED, 0))
    for row, members in enumerate(rows):
        start = 0
        for number in members:
            own_ids, own_labels = samples[number]
            place = (row, slice(start, start + len(own_ids)))
            ids[place], positions[place] = torch.tensor(own_ids), torch.arange(len(own_ids))
            labels[place], numbers[place] = torch.tensor(own_labels), number
            labels[row, start] = IGNORED  # the token before it is another sample's
            start += len(own_ids)
    return Packed(ids, positions, labels, numbers, len(samples))


def beside(model: PreTrainedModel, batch: Batch | Packed) -> Batch | Packed:
    """`batch` on the model's device: a quantised one is on a GPU from the beginning."""
    return batch._replace(
        **{name: part.to(model.device) for name, part in batch._asdict().items() if isinstance(part, Tensor)}
    )


def completion_logits(model: PreTrainedModel, batch: Batch | Packed) -> tuple[Tensor, Tensor]:
    """Float32 logits_NV that predict each completion token, and the tokens_N they should predict, where the model is.

    The vocabulary's matrix is a fifth of a small model's work: it is applied to these positions and to no other.
    """
    batch = beside(model, batch)
    hidden_BLD = model.get_decoder()(input_ids=batch.ids_BL, **batch.attention).last_hidden_state
    predicts_BL = batch.labels_BL[:, 1:] != IGNORED
    logits_NV = model.get_output_embeddings()(hidden_BLD[:, :-1][predicts_BL])
    return logits_NV.float(), batch.labels_BL[:, 1:][predicts_BL]


def completion_losses(model: PreTrainedModel, batch: Batch | Packed) -> tuple[Tensor, Tensor]:
    """Each sample's cross entropy (nats) summed over its completion, and the number of tokens in that."""
    batch = beside(model, batch)
    logits_NV, tokens_N = completion_logits(model, batch)
    losses_N = functional.cross_entropy(logits_NV, tokens_N, reduction="none")
    predicts_BL = batch.labels_BL[:, 1:] != IGNORED
    samples_N = batch.numbers_BL[:, 1:][predicts_BL] if isinstance(batch, Packed) else predicts_BL.nonzero()[:, 0]
    summed_S = losses_N.new_zeros(batch.samples).index_add(0, samples_N, losses_N)
    return summed_S, samples_N.bincount(minlength=batch.samples)


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
    for samples in batches([chat.encode(pair) for pair in pairs], vocabulary=vocabulary_of(model)):
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
