"""A language model small enough for tests: SmolLM2's architecture shrunk to two layers, with random weights.

Its tokenizer is byte-level like SmolLM2's, with the same special tokens and the same chat template.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.artifact import seal
from components.data import sample
from components.data.sample import Sample
from components.models.language import Chat, format_of, load_base

SYSTEM_PROMPT = "Rewrite the phrase as a picture prompt."
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{{message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# As Qwen3's: earlier answers lose their reasoning, and the model may be told to write none.
THINKING_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['role'] == 'assistant' and loop.last %}{{'<think>\n\n</think>\n\n'}}{% endif %}"
    "{{message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{'<think>\n\n</think>\n\n'}}{% endif %}{% endif %}"
)


def tiny_tokenizer(template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token per byte, after the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=template,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def write_tiny_base(folder: Path) -> Path:
    """A sealed base folder, as `data/base/text`: 2 layers of width 64, equal bytes every time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    seal(folder, line="text", kind="base", parents={}, parameters={}, metrics={})
    return folder


def tiny_chat(folder: Path, system_prompt: str = SYSTEM_PROMPT) -> Chat:
    """The tokenizer of the base in `folder` and the format of its conversations."""
    return Chat.of_base(folder, system_prompt)


def thinking_chat() -> Chat:
    """The same tokenizer with a template that shows earlier answers in another form than they are written in."""
    tokenizer = tiny_tokenizer(THINKING_TEMPLATE)
    return Chat(tokenizer, format_of(tokenizer, [tokenizer.eos_token_id], SYSTEM_PROMPT))


def write_tiny_export(base: Path, folder: Path, kind: str = "export", certainty: float = 1.0) -> Path:
    """The base as a sealed int8 export; its random guesses are the worse the more `certainty` they are made with."""
    from components.export.text import convert

    model = load_base(base, torch.float32)
    model.get_input_embeddings().weight.data.mul_(certainty)  # the output's too: they are tied
    convert(model, tiny_chat(base), folder / "openvino", "int8")
    seal(folder, line="text", kind=kind, parents={}, parameters={}, metrics={})
    return folder


def write_tiny_pairs(split: Path, things: tuple[str, ...]) -> None:
    """A sealed text split whose test side holds two phrases for each thing."""
    rows = [
        Sample(f"{thing}-{verb}", f"{verb} {thing}", label=thing, meta={"completion": f"{thing}: flat sticker"})
        for thing in things
        for verb in ("draw", "paint")
    ]
    sample.write(split / "test.parquet", rows)
    seal(split, line="text", kind="split", parents={}, parameters={}, metrics={})
