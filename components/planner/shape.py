"""The sizes of a language model that memory and time follow from, read from its configuration and its tensors' shapes.

Pure: names, types and shapes go in as safetensors' headers have them, no weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

LAYER = re.compile(r"\.(\d+)\.")
EMBEDDING = re.compile(r"(?:embed_tokens|wte|embed_in|word_embeddings)\.weight$")
HEAD = re.compile(r"(?:lm_head|embed_out)\.weight$")
# By what configurations call them; the first that is there counts.
NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "experts_used": ("num_experts_per_tok",),
}
TRANSPOSED = {"gpt2"}  # whose linear layers are stored as [inputs, outputs]


class Header(NamedTuple):
    """One tensor of a safetensors file: its type as the format names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Shape:
    """Of the whole model. `linear`: weights of the blocks' linear layers, to which LoRA is added; `inputs`, `outputs`:
    the widths of these, summed. `expert`: weights of routed experts, `active` the share of them that a token passes,
    `expert_sides` what a LoRA of rank 1 has of weights there. `intermediate`: width of the MLP that a token passes, all
    its experts together.
    """

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    gated: bool
    normed_heads: bool
    tied: bool
    parameters: int
    linear: int
    inputs: int
    outputs: int
    expert: int
    expert_sides: int
    active: float

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    def adapter(self, rank: int) -> int:
        """Weights of LoRA on every linear layer but the output's."""
        return rank * (self.inputs + self.outputs + self.expert_sides)

    @property
    def multiplied(self) -> float:
        """Weights that one token is multiplied with, without the output's."""
        return self.linear + self.active * self.expert


def read(config: Mapping[str, Any], headers: Mapping[str, Header]) -> Shape:
    """Raises `ValueError` where configuration or tensors leave a size open."""
    text = config.get("text_config") or config
    sizes = {name: next((int(text[key]) for key in keys if text.get(key)), 0) for name, keys in NAMES.items()}
    if not all(sizes[name] for name in ("layers", "hidden", "heads")):
        raise ValueError(f"its configuration names no {' or '.join(NAMES['hidden'])}, layers and heads")
    family = str(config.get("model_type"))
    linear = [_sides(family, header) for name, header in headers.items() if _is_linear(name, header)]
    experts = {name: header for name, header in headers.items() if ".experts." in name and len(header.shape) > 1}
    expert = sum(header.values for header in experts.values())
    embedding = next((header for name, header in headers.items() if EMBEDDING.search(name)), None)
    head = next((header for name, header in headers.items() if HEAD.search(name)), None)
    if embedding is None or not linear:
        raise ValueError("its tensors are called as none that are read here: no embedding or no linear layer")
    tied = head is None or bool(text.get("tie_word_embeddings", False))
    stored_twice = head.values if head is not None and tied else 0
    width, gated = _mlp(headers, sizes["hidden"])
    used = sizes["experts_used"] or 1
    return Shape(
        family=family,
        layers=sizes["layers"],
        hidden=sizes["hidden"],
        heads=sizes["heads"],
        kv_heads=_kv_heads(text, sizes),
        head_dim=int(text.get("head_dim") or sizes["hidden"] // sizes["heads"]),
        intermediate=width * (used if expert else 1),
        vocabulary=embedding.shape[0],
        gated=gated,
        normed_heads=any("q_norm" in name for name in headers),
        tied=tied,
        parameters=sum(header.values for header in headers.values()) - stored_twice,
        linear=sum(outputs * inputs for outputs, inputs in linear),
        inputs=sum(inputs for _, inputs in linear),
        outputs=sum(outputs for outputs, _ in linear),
        expert=expert,
        expert_sides=sum(_expert_sides(name, header) for name, header in experts.items()),
        active=used / sizes["experts"] if expert and sizes["experts"] else 1.0,
    )


def _kv_heads(text: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    if text.get("multi_query") and not text.get("new_decoder_architecture"):  # Falcon's first ones
        return 1
    return sizes["kv_heads"] or sizes["heads"]


def _is_linear(name: str, header: Header) -> bool:
    of_block = bool(LAYER.search(name)) and ".experts." not in name
    return len(header.shape) == 2 and of_block and name.endswith(".weight")


def _expert_sides(name: str, header: Header) -> int:
    """transformers holds an expert's gate and its other matrix as one, to which PEFT gives twice the rank."""
    *count, outputs, inputs = header.shape
    if re.search(r"gate_up_proj", name):
        return 2 * prod(count) * (inputs + outputs)
    whole = 2 * outputs if re.search(r"\.(gate_proj|up_proj|w1|w3)\.", name) else outputs
    return prod(count) * (inputs + whole)


def _sides(family: str, header: Header) -> tuple[int, int]:
    """Outputs and inputs of a linear layer."""
    first, second = header.shape
    return (second, first) if family in TRANSPOSED else (first, second)


def _mlp(headers: Mapping[str, Header], hidden: int) -> tuple[int, bool]:
    """Width of one MLP, or of one expert, and whether a gate multiplies it."""
    down = re.compile(r"(?:down_proj|mlp\.c_proj|dense_4h_to_h|fc2|\.w2)\.weight$|experts\.down_proj$")
    widths = [side for name, header in headers.items() if down.search(name) for side in _other_side(header, hidden)]
    gate = re.compile(r"gate_proj|gate_up_proj|\.w1\.weight$|\.w3\.weight$")
    return max(widths, default=4 * hidden), any(gate.search(name) for name in headers)


def _other_side(header: Header, hidden: int) -> Iterator[int]:
    sides = list(header.shape[-2:])
    if hidden in sides:
        sides.remove(hidden)
        yield sides[0]
