"""Flow matching with straight paths: x_t = (1 - t) x_0 + t x_1, velocity = x_1 - x_0, with data x_0 and noise x_1.

Pure maths on tensors; knows no model. Time runs from 0 (data) to 1 (noise). Sources: Lipman et al. 2023
(arXiv:2210.02747), logit-normal times from Esser et al. 2024 (arXiv:2403.03206), guidance from Ho and Salimans 2022
(arXiv:2207.12598).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TIME_SHIFT = 0.6


def logit_normal_times(
    count: int, device: torch.device | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """`count` times in (0, 1) drawn densest around 2/3, where it is decided what a picture shows."""
    return torch.sigmoid(torch.randn(count, device=device, generator=generator) + TIME_SHIFT)


def interpolate(data_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
    """The point of the straight path at each sample's own time."""
    time_B111 = time_B.view(-1, 1, 1, 1)
    return (1 - time_B111) * data_BCHW + time_B111 * noise_BCHW


def velocity_target(data_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
    """The constant velocity of the straight path from data to noise."""
    return noise_BCHW - data_BCHW


def guide(conditional: Tensor, unconditional: Tensor, guidance_B: Tensor) -> Tensor:
    """Classifier-free guidance per sample; 1 gives the conditional velocity unchanged."""
    return unconditional + guidance_B.view(-1, 1, 1, 1) * (conditional - unconditional)


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise_BCHW: Tensor, steps: int) -> Tensor:
    """Euler steps of equal size from noise (t = 1) to data (t = 0); `velocity` takes (x_BCHW, time_B)."""
    x_BCHW = noise_BCHW
    for step in range(steps):
        time_B = torch.full((len(x_BCHW),), 1 - step / steps, dtype=x_BCHW.dtype, device=x_BCHW.device)
        x_BCHW = x_BCHW - velocity(x_BCHW, time_B) / steps
    return x_BCHW
