"""What is traced without weights is what the same step takes with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from components.config import TrainImage, load
from components.models import planned
from components.models.pipelines import family_of
from components.training.pipeline import network_of
from tests.conftest import ROOT
from tests.tiny_pipelines import SIZE, write_tiny_flux, write_tiny_sd3, write_tiny_sdxl

SETTINGS = load(ROOT / "params.yaml").train.image.decided(built_in=False)


def settings(**changes: object) -> TrainImage:
    return SETTINGS.model_copy(update={"batch_size": 1, **changes})


@pytest.mark.parametrize(
    ("write", "side", "rows", "again"),
    [
        (write_tiny_sdxl, 256, 4, False),
        (write_tiny_sdxl, 256, 4, True),
        (write_tiny_sd3, 128, 16, False),
        (write_tiny_flux, 512, 4, False),
        (write_tiny_flux, 512, 4, True),
    ],
)
def test_a_step_takes_what_was_planned(
    tmp_path: Path, write: Callable[[Path], Path], side: int, rows: int, again: bool
) -> None:
    """Of so many pictures that what an operation needs for itself, which no plan knows, is little beside them."""
    folder = write(tmp_path / "model")
    config = settings(batch_size=rows, micro_batch=rows, gradient_checkpointing=again)
    family = family_of(folder)
    expected = planned.training(family, folder, config, side, "bf16")

    network = network_of(family, folder, config).train()
    if again:
        network.enable_gradient_checkpointing()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    schedule, states = family.scheduler(folder), family.blank(folder, rows)
    latents_BCHW = torch.zeros(rows, family.channels(folder), *[side // family.factor(folder)] * 2)
    optimizer = torch.optim.AdamW(trained)

    def step() -> None:
        time_B = family.times(schedule, torch.full((rows,), 0.5), latents_BCHW)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            noise_BCHW = torch.zeros_like(latents_BCHW)
            loss = family.loss(network, schedule, latents_BCHW, states, noise_BCHW, time_B).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    step()
    held = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    held += sum(2 * parameter.nbytes for parameter in trained)
    for parameter in trained:
        parameter.grad = None
    with FlopCounterMode(display=False) as counter:
        step()
    for parameter in trained:
        parameter.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
        step()
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for _, size in sorted((event.start_ns(), event.nbytes()) for event in events):
        now += size
        most = max(most, now)
    average = sum(parameter.nbytes for parameter in trained)  # of the weights, which this step does not keep
    assert expected.memory == pytest.approx(held + most + average, rel=0.1)
    assert expected.flops == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_a_step_in_parts_takes_the_memory_of_one(tmp_path: Path) -> None:
    folder = write_tiny_sdxl(tmp_path / "model")
    family = family_of(folder)
    one, four = (
        planned.training(family, folder, settings(batch_size=batch, micro_batch=1), SIZE, "bf16") for batch in (1, 4)
    )
    assert four.memory == pytest.approx(one.memory, rel=0.1)
    assert four.flops == 4 * one.flops


def test_every_weight_takes_more_than_an_adapter_and_a_larger_picture_more_than_a_small_one(tmp_path: Path) -> None:
    folder = write_tiny_sdxl(tmp_path / "model")
    family = family_of(folder)
    adapter = planned.training(family, folder, settings(), SIZE, "bf16")
    assert planned.training(family, folder, settings(lora_rank=None), SIZE, "bf16").memory > adapter.memory
    small, large = (planned.painting(family, folder, side, 12) for side in (SIZE, 2 * SIZE))
    assert large.memory > 3 * small.memory and large.flops > 3 * small.flops
