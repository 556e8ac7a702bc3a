"""An adapter changes nothing before it is trained, alone is trained, and leaves a plain denoiser behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.models.adapter import adapted, merged
from components.models.denoiser import TEXT_WIDTH, Denoiser
from tests.tiny_image import SHAPE, tiny_denoiser

INPUTS = (torch.ones(1, 3, 8, 8), torch.tensor([0.5]), torch.ones(1, 4, TEXT_WIDTH), torch.ones(1, 4))


def test_it_trains_few_weights_and_merges_into_the_same_network() -> None:
    torch.manual_seed(0)
    before = tiny_denoiser()
    expected = before(*INPUTS)
    network = adapted(tiny_denoiser(), rank=2)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert torch.equal(network(*INPUTS), expected)
    assert all("lora_" in name for name in trained)
    for name, p in trained.items():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.1)
    changed = network(*INPUTS)
    denoiser = merged(network)
    assert denoiser.state_dict().keys() == before.state_dict().keys()
    assert not torch.allclose(changed, expected) and torch.allclose(denoiser(*INPUTS), changed, atol=1e-5)


def test_every_linear_layer_of_the_transformer_has_one() -> None:
    linear = [name for name, m in tiny_denoiser().named_modules() if isinstance(m, nn.Linear)]
    adapters = [n for n, _ in adapted(Denoiser(SHAPE), rank=2).named_parameters() if "lora_A" in n]
    assert len(adapters) == len(linear)


def test_only_a_denoisers_adapter_is_merged() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.ModuleDict({"to_q": nn.Linear(4, 4)})

    with pytest.raises(TypeError, match="found Other"):
        merged(adapted(Other(), rank=2))  # type: ignore[arg-type]
