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

from components.models.pipelines.family import Family


class Flow(Family):
    """`predict` gives the velocity: noise less data."""

    samplers = ("FlowMatchEulerDiscreteScheduler",)
    patch = 2  # latents that the transformer reads as one token, along a side
    even = False  # whether the pipeline itself spaces the levels that its scheduler then shifts

    def multiple(self, folder: Path) -> int:
        return self.factor(folder) * self.patch

    def scheduler(self, folder: Path) -> FlowMatchEulerDiscreteScheduler:
        return FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True)

    def times(self, scheduler: Any, uniform_B: Tensor, latents_BCHW: Tensor) -> Tensor:
        """Sigmas: logit-normal, then shifted as the scheduler shifts those that it samples with."""
        sigma_B = torch.sigmoid(torch.special.ndtri(uniform_B.double().clamp(1e-6, 1 - 1e-6)))
        shift = self.shift(scheduler, latents_BCHW.shape[-2] * latents_BCHW.shape[-1] // self.patch**2)
        return (shift * sigma_B / (1 + (shift - 1) * sigma_B)).float()

    def shift(self, scheduler: Any, tokens: int) -> float:
        """By how much times lean towards noise; dynamic ones grow with a picture's tokens."""
        if not scheduler.config.use_dynamic_shifting:
            return float(scheduler.config.shift)
        mu = self._mu(scheduler.config, tokens)
        return math.exp(mu) if scheduler.config.time_shift_type == "exponential" else mu

    def _mu(self, config: Any, tokens: int) -> float:
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        return float(config.base_shift + slope * (tokens - config.base_image_seq_len))

    def levels(self, scheduler: Any, steps: int, latents: tuple[int, int]) -> tuple[Tensor, Tensor]:
        given: dict[str, Any] = {"sigmas": np.linspace(1, 1 / steps, steps)} if self.even else {}
        if scheduler.config.use_dynamic_shifting:
            given["mu"] = self._mu(scheduler.config, latents[0] * latents[1] // self.patch**2)
        scheduler.set_timesteps(None if self.even else steps, **given)
        return scheduler.sigmas, scheduler.timesteps / scheduler.config.num_train_timesteps

    def noised(self, scheduler: Any, latents_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
        sigma_B111 = time_B.view(-1, 1, 1, 1)
        return (1 - sigma_B111) * latents_BCHW + sigma_B111 * noise_BCHW

    def target(self, scheduler: Any, latents_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
        return noise_BCHW - latents_BCHW
