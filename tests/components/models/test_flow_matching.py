"""The paths start at data, end at noise, and integrating their velocity leads back."""

from __future__ import annotations

import torch

from components.models import flow_matching


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 3, 4, 4, generator=generator), torch.randn(3, 3, 4, 4, generator=generator)


def test_path_runs_from_data_to_noise() -> None:
    data, noise = pair()
    path = flow_matching.interpolate(data, noise, torch.tensor([0.0, 1.0, 0.5]))
    assert torch.equal(path[0], data[0])
    assert torch.equal(path[1], noise[1])
    assert torch.allclose(path[2], (data[2] + noise[2]) / 2)


def test_integrating_the_target_velocity_recovers_the_data() -> None:
    data, noise = pair()
    velocity = flow_matching.velocity_target(data, noise)
    times: list[float] = []

    def constant(x: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        times.append(float(time_B[0]))
        return velocity

    assert torch.allclose(flow_matching.integrate(constant, noise, 7), data, atol=1e-5)
    assert times[0] == 1.0 and len(times) == 7 and min(times) > 0


def test_guidance_is_per_sample_and_one_means_none() -> None:
    conditional, unconditional = pair()
    guided = flow_matching.guide(conditional, unconditional, torch.tensor([1.0, 0.0, 3.0]))
    assert torch.allclose(guided[0], conditional[0], atol=1e-6)
    assert torch.equal(guided[1], unconditional[1])
    assert torch.allclose(guided[2], 3 * conditional[2] - 2 * unconditional[2], atol=1e-5)


def test_times_lie_inside_the_path_and_lean_towards_noise() -> None:
    torch.manual_seed(0)
    times = flow_matching.logit_normal_times(2000)
    assert times.min() > 0 and times.max() < 1
    assert abs(times.median() - torch.sigmoid(torch.tensor(flow_matching.TIME_SHIFT))) < 0.02
