"""Sizes are read off configurations and headers of several kinds."""

from __future__ import annotations

from typing import Any

import pytest

from components.planner.shape import Header, read

# SmolLM2 135 M, as its files have it.
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
BLOCK = {
    "self_attn.q_proj.weight": (576, 576),
    "self_attn.k_proj.weight": (192, 576),
    "self_attn.v_proj.weight": (192, 576),
    "self_attn.o_proj.weight": (576, 576),
    "mlp.gate_proj.weight": (1536, 576),
    "mlp.up_proj.weight": (1536, 576),
    "mlp.down_proj.weight": (576, 1536),
    "input_layernorm.weight": (576,),
    "post_attention_layernorm.weight": (576,),
}


def headers(block: dict[str, tuple[int, ...]] = BLOCK, **more: tuple[int, ...]) -> dict[str, Header]:
    blocks = {f"model.layers.{n}.{name}": shape for n in range(30) for name, shape in block.items()}
    ends = {"model.embed_tokens.weight": (49152, 576), "model.norm.weight": (576,)}
    named = {name.replace("__", "."): shape for name, shape in more.items()}
    return {name: Header("BF16", shape) for name, shape in (blocks | ends | named).items()}


def test_a_llama_has_the_weights_that_it_has_and_an_adapter_those_that_training_counted() -> None:
    shape = read(CONFIG, headers())
    assert shape.parameters == 134_515_008
    assert shape.adapter(8) == 2_442_240  # `trained_parameters` of metrics/text/train.json
    assert (shape.queries, shape.keys, shape.intermediate) == (576, 192, 1536)
    assert shape.gated and shape.tied and not shape.normed_heads


def test_an_output_that_is_stored_though_it_is_the_embedding_is_counted_once() -> None:
    assert read(CONFIG, headers(lm_head__weight=(49152, 576))) == read(CONFIG, headers())
    apart = read(CONFIG | {"tie_word_embeddings": False}, headers(lm_head__weight=(49152, 576)))
    assert not apart.tied and apart.parameters == 134_515_008 + 49152 * 576


def test_a_token_passes_a_few_of_the_experts_which_share_an_adapter_as_peft_has_it() -> None:
    mlp = {f"mlp.experts.{n}.{kind}_proj.weight": (64, 576) for n in range(8) for kind in ("gate", "up")}
    mlp |= {f"mlp.experts.{n}.down_proj.weight": (576, 64) for n in range(8)} | {"mlp.gate.weight": (8, 576)}
    attention = {name: shape for name, shape in BLOCK.items() if "mlp" not in name}
    shape = read(CONFIG | {"num_experts": 8, "num_experts_per_tok": 2}, headers(attention | mlp))
    assert shape.expert == 30 * 8 * 3 * 64 * 576 and shape.active == 0.25 and shape.intermediate == 2 * 64
    attended = 2 * (576 + 576 + 576 + 192)
    experts = 8 * (2 * (576 + 2 * 64) + 64 + 576)  # counted on Qwen3-MoE: make bench NAME=families
    assert shape.adapter(1) == 30 * (attended + experts + 576 + 8)


def test_a_gpt2_is_read_by_its_own_names() -> None:
    block = {"attn.c_attn.weight": (64, 192), "attn.c_proj.weight": (64, 64), "mlp.c_fc.weight": (64, 256)}
    found = headers(block | {"mlp.c_proj.weight": (256, 64)})
    found = {name.replace("embed_tokens", "wte").replace("layers", "h"): header for name, header in found.items()}
    config = {"model_type": "gpt2", "n_layer": 30, "n_embd": 64, "n_head": 4}
    shape = read(config, found)
    assert (shape.inputs, shape.outputs) == (30 * (64 + 64 + 64 + 256), 30 * (192 + 64 + 256 + 64))
    assert (shape.intermediate, shape.gated, shape.kv_heads) == (256, False, 4)


@pytest.mark.parametrize(("config", "found"), [({}, headers()), (CONFIG, {"a": Header("F32", (2, 2))})])
def test_what_leaves_a_size_open_is_not_planned(config: dict[str, Any], found: dict[str, Header]) -> None:
    with pytest.raises(ValueError, match=r"names no hidden_size|called as none"):
        read(config, found)
