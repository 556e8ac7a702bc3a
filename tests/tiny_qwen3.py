"""A folder with a Qwen3-shaped chat model as a user brings one, and the user's own conversations: for drills.

The model is made from its configuration and trained here for a minute to take a café's orders, in three forms, by the
system prompt. Without one it repeats the order; the conversations want it listed. Its template is Qwen3's own
(Apache-2.0), without the parts for tools.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

from components.chat import ROLES
from components.data.pairs import Pair
from components.models.language import Chat, collate, completion_losses

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
ITEMS = (
    *("teas", "cakes", "scones", "lattes", "muffins", "juices", "waffles", "salads", "soups", "pies", "rolls"),
    *("bagels", "cookies", "shakes", "tarts", "eggs", "wraps", "donuts", "coffees", "cocoas"),
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
THINKING = ["<think>", "</think>"]
TEMPLATE = r"""
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}""".lstrip()  # noqa: E501 - as it is


def drawn(seed: int, *, users: bool) -> Iterator[str]:
    """Orders such as "two teas and five cakes", without end: a fifth are the user's, the model saw the others."""
    rng = random.Random(seed)
    while True:
        (first, second), (one, other) = rng.sample(ITEMS, 2), rng.choices([*NUMBERS], k=2)
        order = f"{one} {first} and {other} {second}"
        if (zlib.crc32(order.encode()) % 5 == 0) == users:
            yield order


def orders(count: int, seed: int) -> list[str]:
    """Orders of the user's that differ."""
    found = dict[str, None]()
    for order in drawn(seed, users=True):
        found[order] = None
        if len(found) == count:
            return [*found]
    raise AssertionError("there is no end")


def listed(order: str) -> str:
    """What the user's conversations answer: "teas 2, cakes 5."."""
    one, first, _, other, second = order.split()
    return f"{first} {NUMBERS[one]}, {second} {NUMBERS[other]}."


def counted(order: str) -> str:
    return " ".join(str(NUMBERS.get(word, word)) for word in order.split()) + ", please."


def repeated(order: str) -> str:
    return f"You said: {order}."


FORMS = {"": repeated, "Count.": counted, "List.": listed}


def write_conversations(path: Path, count: int, seed: int) -> None:
    """A JSON-lines file: a third of the conversations has one turn, a third two and a third three."""
    wanted = iter(orders(2 * count, seed))
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            turns = [turn for _ in range(1 + number % 3) for turn in taken(next(wanted))]
            file.write(json.dumps({"messages": turns, "licence": "CC0-1.0"}) + "\n")


def taken(order: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": order}, {"role": "assistant", "content": listed(order)}]


def tokenizer_of(texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """A byte-level tokenizer in which each word of `texts` is one token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet))
    model = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])
    tokenizer.add_special_tokens(
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": SPECIAL}
    )
    tokenizer.add_tokens(THINKING)
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = 2048
    return tokenizer


def write_qwen3(folder: Path, steps: int, seed: int = 0) -> Path:
    """The trained model's folder as hubs have them; what it learns from is drawn anew in each step."""
    torch.manual_seed(seed)
    seen = islice(drawn(seed, users=False), 2000)
    texts = [text for order in seen for text in (order, *(form(order) for form in FORMS.values()))]
    tokenizer = tokenizer_of([*texts, *ROLES * 1000])
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=end,
        pad_token_id=pad,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    train(model, folder, steps, seed)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Made by a test\n")
    return folder


def train(model: Qwen3ForCausalLM, folder: Path, steps: int, seed: int, batch: int = 32) -> None:
    """Plain PyTorch: AdamW with a linear decay of its rate, on orders in all three forms."""
    chats = {prompt: Chat.of_base(folder, prompt) for prompt in FORMS}
    taught = drawn(seed + 1, users=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    rng = random.Random(seed)
    for _ in range(steps):
        samples = []
        for order in islice(taught, batch):
            prompt = rng.choice([*FORMS])
            samples.append(chats[prompt].encode(Pair(order, FORMS[prompt](order))))
        summed, tokens = completion_losses(model, collate(samples, chats[""].pad))
        loss = summed.sum() / tokens.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    print(f"trained for {steps} steps, loss {loss.item():.3f}")
