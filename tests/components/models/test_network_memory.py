"""What is counted on tensors without content is what the real network's step saves and has in use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from components.models import network_memory
from components.models.network_memory import lora
from components.models.pipelines import adapters, family_of
from tests.tiny_pipelines import write_tiny_sd3, write_tiny_sdxl

SIDE, RANK = 512, 4


@pytest.mark.parametrize("write", [write_tiny_sdxl, write_tiny_sd3])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_takes_what_is_counted(
    write: Callable[[Path], Path], checkpointing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_memory, "T5", 32)
    folder = write(tmp_path / "pipeline")
    counted = lora(folder, RANK, SIDE, checkpointing)
    family = family_of(folder)
    network = adapters.add(family.read_network(folder, torch.bfloat16), family, RANK, RANK).train()
    if checkpointing:
        network.enable_gradient_checkpointing()
    assert counted.parameters + counted.adapter == sum(p.numel() for p in network.parameters())
    states = network_memory._states(family, folder, SIDE)
    latents = SIDE // family.factor(folder)
    noisy_BCHW = torch.randn(1, family.channels(folder), latents, latents)
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return family.predict(network, noisy_BCHW, torch.zeros(1), states)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output_BCHW = forward()
    saved = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
    assert counted.activations == pytest.approx(saved, rel=0.03)
    del output_BCHW
    kept.clear()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        forward().float().square().mean().backward()
    now = most = 0
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    for _, size in sorted((event.start_ns(), event.nbytes()) for event in events):
        now += size
        most = max(most, now)
    assert counted.peak == pytest.approx(counted.weights + counted.optimizer + most, rel=0.1)
