"""Each family agrees with its own pipeline: states, latents, and what the network predicts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline

from components.models.pipelines import FAMILIES
from components.models.pipelines.family import Family
from tests.tiny_pipelines import SIZE, WRITERS, write_tiny_sdxl

FLOWS = [family for family in FAMILIES.values() if not family.weighed_by_snr]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pipelines")
    return {name: write(folder / name) for name, write in WRITERS.items()}


@pytest.fixture(params=FAMILIES.values(), ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


def test_sizes_are_read_from_the_folder(bases: dict[str, Path], family: Family) -> None:
    folder = bases[family.name]
    assert (family.native_size(folder), family.factor(folder), family.multiple(folder)) == (SIZE, 8, 16)
    assert not list(family.faults(folder))


def test_captions_that_no_encoder_reads_whole_are_counted(bases: dict[str, Path], family: Family) -> None:
    longest = max([14, *family.longest.values()])
    captions = ["a cat", "b" * (longest - 2), "c" * (longest + 2)]
    assert family.cut(bases[family.name], captions) == 1


def test_captions_of_which_no_encoder_reads_half_are_named(bases: dict[str, Path], family: Family) -> None:
    captions = ["a cat", "красное яблоко", "a red apple 林檎", "123", ""]
    assert family.unread(bases[family.name], captions) == ["красное яблоко"]


def test_the_vae_is_read_in_float32_whatever_the_rest_is(bases: dict[str, Path], family: Family) -> None:
    half = family.read(bases[family.name], torch.bfloat16)
    assert half.vae.dtype == torch.float32 and family.network(half).dtype == torch.bfloat16


def test_latents_are_what_the_pipeline_decodes(bases: dict[str, Path], family: Family) -> None:
    pipeline = family.read(bases[family.name], without=(family.network_name, *family.encoders))
    pictures = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = family.to_latents(pipeline, pictures)
    assert latents.shape[2:] == (8, 6) and torch.equal(latents, family.to_latents(pipeline, pictures))
    config = pipeline.vae.config
    decoded = pipeline.vae.decode(latents / config.scaling_factor + (config.shift_factor or 0)).sample
    assert torch.allclose(family.to_pictures(pipeline, latents), decoded.clamp(-1, 1), atol=1e-6)


def test_the_pipeline_asks_its_network_as_the_family_does(bases: dict[str, Path], family: Family) -> None:
    """Painted in one step from given noise, the network's output is what `predict` gives for that noise."""
    pipeline = family.read(bases[family.name])
    network, outputs = family.network(pipeline), []
    hook = network.register_forward_hook(lambda module, inputs, output: outputs.append(output[0]))
    states = family.encode(pipeline, ["a cat"])
    family.paint(pipeline, states, family.unconditional(pipeline), size=64, steps=1, guidance=1.0, seeds=[0])
    hook.remove()
    noise = torch.randn(1, family.channels(bases[family.name]), 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler = pipeline.scheduler
    if family.weighed_by_snr:  # its sampler scales noise up, and down again for the network
        noise, time = noise * scheduler.init_noise_sigma, scheduler.timesteps[:1]
        noise = noise / (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    else:
        time = scheduler.sigmas[:1]
    framing = family.framing((64, 64), (0, 0), (64, 64))
    with torch.no_grad():
        predicted = family.predict(network, noise, time, states | framing)
    if outputs[0].dim() == 3:
        predicted = FluxPipeline._pack_latents(predicted, *predicted.shape)
    assert torch.allclose(predicted, outputs[0], atol=1e-4)


def test_a_perfect_prediction_has_no_loss(
    bases: dict[str, Path], family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bases[family.name]
    schedule, network = family.scheduler(folder), torch.nn.Linear(1, 1)
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(4, 4, 8, 8, generator=generator) for _ in range(2))
    time = family.times(schedule, torch.tensor([0.1, 0.4, 0.6, 0.9]), latents)
    target = family.target(schedule, latents, noise, time)
    monkeypatch.setattr(family, "predict", lambda *given: target + 0.5)
    assert torch.allclose(family.loss(network, schedule, latents, {}, noise, time), torch.full((4,), 0.25))
    mask = torch.zeros(4, 1, 8, 8)
    mask[:, :, :4] = 1
    wrong = target.clone()
    wrong[:, :, 4:] += 3  # where the mask hides it
    monkeypatch.setattr(family, "predict", lambda *given: wrong)
    assert torch.allclose(family.loss(network, schedule, latents, {}, noise, time, mask_B1HW=mask), torch.zeros(4))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weighs_the_error_of_the_clean_picture(tmp_path: Path, prediction: str) -> None:
    """However the network says it, the error of the picture that it implies counts min(SNR, 5)."""
    sdxl = FAMILIES["StableDiffusionXLPipeline"]
    schedule = sdxl.scheduler(write_tiny_sdxl(tmp_path / "sdxl", prediction))
    assert schedule.config.prediction_type == prediction
    time = torch.tensor([10, 300, 700, 950])
    alpha = schedule.alphas_cumprod[time]
    snr = alpha / (1 - alpha)
    of_clean = {"epsilon": 1 / snr, "v_prediction": 1 - alpha}[prediction]  # its squared error, for one of the output
    weights = sdxl.weight(schedule, time, 5.0)
    assert torch.allclose(weights, snr.clamp(max=5) * of_clean, rtol=1e-4)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda family: family.name)
def test_times_of_flows_are_shifted_towards_noise_as_the_scheduler_does(bases: dict[str, Path], flow: Family) -> None:
    schedule = flow.scheduler(bases[flow.name])
    small, large = (flow.times(schedule, torch.tensor([0.5]), torch.zeros(1, 4, side, side)) for side in (8, 128))
    assert 0.5 < float(small) <= float(large) < 1
    assert (float(small) < float(large)) == schedule.config.use_dynamic_shifting
