"""What a pipeline takes to train and to paint with, traced from its configurations: no weights are read."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import torch
from torch import nn

from components.config.base import Precision
from components.config.stages import TrainImage
from components.models.pipelines import Family, adapters
from components.planner.speed import Taken
from components.planner.traced import traced

FLOAT = 4
BYTES = {"f32": 4, "f16": 2, "int8": 1}  # of a weight that is served


def training(family: Family, folder: Path, config: TrainImage, side: int, precision: Precision) -> Taken:
    """A step on one device, of pictures whose area is that of a square of `side` pixels; `config` is decided.

    The optimiser's two moments and the average of the weights are in float32, of what is trained; so are DDP's buckets.
    """
    own = max(1, config.batch_size // config.devices)
    rows = min(config.micro_batch or own, own)
    network = _sketch(family, folder, config, precision)
    schedule = family.scheduler(folder)

    def loss() -> torch.Tensor:
        latents_BCHW = torch.zeros(rows, family.channels(folder), *[side // family.factor(folder)] * 2)
        time_B = family.times(schedule, torch.full((rows,), 0.5), latents_BCHW)
        states = family.blank(folder, rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            return family.loss(network, schedule, latents_BCHW, states, torch.zeros_like(latents_BCHW), time_B).mean()

    def step() -> None:
        """One part of it. The gradients of the parts before are there, or until the loss is known the last step's."""
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        found = loss()
        if rows == own:
            for parameter in trained:
                parameter.grad = None
        found.backward()

    copies = 3 + (config.strategy == "ddp")
    kept = copies * FLOAT * sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    part = traced(network, step)
    return Taken(part.memory + kept, ceil(own / rows) * part.flops * config.devices)


def painting(family: Family, folder: Path, side: int, steps: int) -> Taken:
    """One picture, computed in float32: the memory beside the weights. Encoding the prompt is not counted in."""
    network, vae = family.sketch(folder, family.network_name), family.sketch(folder, "vae")
    latents = (family.channels(folder), *[side // family.factor(folder)] * 2)
    rows = family.guided_rows

    @torch.no_grad()
    def step() -> None:
        family.predict(network, torch.zeros(rows, *latents), torch.full((rows,), 0.5), family.blank(folder, rows))

    @torch.no_grad()
    def decode() -> None:
        vae.decode(torch.zeros(1, *latents))

    one, last = traced(network, step), traced(vae, decode)
    working = max(one.memory - _bytes(network), last.memory - _bytes(vae))
    return Taken(working, steps * one.flops + last.flops)


def _sketch(family: Family, folder: Path, config: TrainImage, precision: Precision) -> nn.Module:
    """The network as the stage makes it for training, without its weights."""
    frozen = torch.bfloat16 if precision == "bf16" and config.lora_rank else torch.float32
    network = family.sketch(folder, family.network_name, frozen).train()
    if config.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    if config.lora_rank is None:
        return network.requires_grad_(True)
    with torch.device("meta"):
        return adapters.add(network, family, config.lora_rank, config.lora_alpha or config.lora_rank)


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
