"""The families of language models and the steps that each takes: see `tests.bench.families`. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

STEPS = ("load", "training step", "adapter saved and loaded", "export", "parity", "serve")

SIZES = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
HEADS = {"head_dim": 16}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
# By transformers' model type: what its configuration wants beside or in the place of `SIZES`; None leaves a key out.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": HEADS,
    "qwen2": {},
    "qwen3": HEADS,
    "qwen3_moe": {**HEADS, **EXPERTS, "num_experts": 4, "decoder_sparse_step": 1},
    "mistral": HEADS,
    "ministral": HEADS,
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma2": HEADS,
    "gemma3_text": {**HEADS, "sliding_window": 64},
    "phi": {"num_key_value_heads": 4},  # as all of its models
    "phi3": {},
    "gpt2": {},
    "gpt_neox": {},
    "olmo2": {},
    "olmo3": {},
    "granite": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "cohere": {},
    "glm4": HEADS,
    "exaone4": HEADS,
    "ernie4_5": HEADS,
    "hunyuan_v1_dense": HEADS,
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True},
    "deepseek_v3": {
        **EXPERTS,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 32,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
    },
}
