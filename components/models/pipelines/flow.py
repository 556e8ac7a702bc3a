"""What families of flow matching share: straight paths from data (sigma 0) to noise (sigma 1).

Lipman et al. 2023 (arXiv:2210.02747); logit-normal times and their shift for larger pictures by Esser et al. 2024
(arXiv:2403.03206), as diffusers' training scripts for these families have them. Every time weighs the same.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from components.models.pipelines.family import Family, States


class Flow(Family):
    """`predict` gives the velocity: noise less data."""

    sampler = "FlowMatchEulerDiscreteScheduler"
    patch = 2  # latents that the transformer reads as one token, along a side
    even = False  # whether the pipeline itself spaces the levels that its scheduler then shifts

    def multiple(self, folder: Path) -> int:
        return self.factor(folder) * self.patch

    def conditioned(self, folder: Path, rows: int, tokens: int) -> States:
        """Zeros for states of so many tokens."""
        network = self.part(folder, self.network_name)
        return {
            "prompt": torch.zeros(rows, tokens, network["joint_attention_dim"]),
            "pooled": torch.zeros(rows, network["pooled_projection_dim"]),
        }

    def scheduler(self, folder: Path) -> FlowMatchEulerDiscreteScheduler:
        return FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True)

    def times(self, scheduler: Any, uniform_B: Tensor, latents_BCHW: Tensor) -> Tensor:
        """Sigmas: logit-normal, then shifted as the scheduler shifts those that it samples with."""
        sigma_B = torch.sigmoid(torch.special.ndtri(uniform_B.double().clamp(1e-6, 1 - 1e-6)))
        shift = self.shift(scheduler, latents_BCHW.shape[-2] * latents_BCHW.shape[-1] // self.patch**2)
        return (shift * sigma_B / (1 + (shift - 1) * sigma_B)).float()

    def shift(self, scheduler: Any, tokens: int) -> float:
        """By how much times lean towards noise; dynamic ones grow with a picture's tokens."""
        config = scheduler.config
        if not config.use_dynamic_shifting:
            return float(config.shift)
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
        return math.exp(mu) if config.time_shift_type == "exponential" else mu

    def levels(self, scheduler: Any, steps: int) -> tuple[Tensor, Tensor]:
        spaced = {"sigmas": np.linspace(1, 1 / steps, steps)} if self.even else {"num_inference_steps": steps}
        scheduler.set_timesteps(**spaced)
        return scheduler.sigmas, scheduler.timesteps / scheduler.config.num_train_timesteps

    def written_out(self, scheduler: Any, folder: Path) -> dict[str, Any]:
        """The shift of native pictures as a number, where it grows with their tokens: GenAI 2026.4 computes that as
        FLUX.2 does, by the number of steps too. Pictures of other sizes are painted with it as well."""
        if not scheduler.config.use_dynamic_shifting:
            return {}
        tokens = (self.native_size(folder) // self.multiple(folder)) ** 2
        return {"use_dynamic_shifting": False, "shift": self.shift(scheduler, tokens)}

    def noised(self, scheduler: Any, latents_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
        sigma_B111 = time_B.view(-1, 1, 1, 1)
        return (1 - sigma_B111) * latents_BCHW + sigma_B111 * noise_BCHW

    def target(self, scheduler: Any, latents_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
        return noise_BCHW - latents_BCHW
