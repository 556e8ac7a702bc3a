"""The rounded model: on the grid, close to what it is made of, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from components.evaluation.rounding import GRIDS, rounded, rounded_inputs, rounded_weights
from components.models.language import load_base
from components.stage import StageError


@pytest.mark.parametrize("weight_format", GRIDS)
def test_a_weight_moves_by_half_a_step_at_most_and_zero_stays(weight_format: str) -> None:
    steps, size = GRIDS[weight_format]
    weights = torch.randn(5, 128, generator=torch.Generator().manual_seed(0))
    weights[:, 7] = 0.0
    coarse = rounded_weights(weights, weight_format)
    groups = weights.reshape(-1, size or 128)
    step = (groups.amax(1, keepdim=True) - groups.amin(1, keepdim=True)) / steps
    moved = (coarse - weights).reshape(groups.shape).abs()
    assert (moved <= 0.51 * step + 1e-3 * groups.abs()).all()  # and what float16 makes of the step
    assert (coarse[:, 7] == 0).all()
    assert len(coarse[0].unique()) <= (steps + 1) * (128 // (size or 128))


def test_inputs_are_steps_of_the_greatest_of_their_group() -> None:
    inputs = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0))
    steps = rounded_inputs(inputs).view(2, 3, 2, 32) / inputs.view(2, 3, 2, 32).abs().amax(-1, keepdim=True) * 127
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert torch.equal(rounded_inputs(torch.zeros(1, 32)), torch.zeros(1, 32))


def test_a_model_is_itself_again(tiny_base: Path) -> None:
    model, ids = load_base(tiny_base, torch.float32), torch.tensor([[1, 50, 60, 70]])
    with torch.inference_mode():
        exact = model(ids).logits
        with rounded(model, "int8"):
            coarse = model(ids).logits
        again = model(ids).logits
    assert torch.equal(exact, again)
    assert 0 < (coarse - exact).abs().max() < 0.1 * exact.abs().max()


def test_layers_that_are_stored_the_other_way_round_are_rounded_as_linear_ones() -> None:
    """GPT-2's: without them only its embeddings would be rounded, and no export of it would be at parity."""
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=2)).eval()
    layer = gpt2.transformer.h[0].mlp.c_fc
    linear = torch.nn.Linear(32, 128)
    linear.weight.data, linear.bias.data = layer.weight.data.T.contiguous(), layer.bias.data
    x = torch.randn(3, 32)
    with torch.inference_mode(), rounded(gpt2, "int8", inputs=False):
        expected = torch.nn.functional.linear(x, rounded_weights(linear.weight, "int8"), linear.bias)
        assert torch.allclose(layer(x), expected)
        assert not torch.allclose(layer(x), linear(x), atol=1e-6)


def test_a_mixture_whose_experts_are_one_block_is_refused_in_words() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    heads = {"num_key_value_heads": 1, "num_local_experts": 2, "num_experts_per_tok": 1, "vocab_size": 32}
    mixture = MixtralForCausalLM(MixtralConfig(**sizes, **heads))
    refused = pytest.raises(StageError, match="unproven for models of the family mixtral: their MixtralExperts")
    with refused, rounded(mixture, "int8"):
        pass
