"""The image stage on a tiny network: from a sealed split to a sealed checkpoint, with every refusal in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from components.artifact import ArtifactError, seal, verify
from components.config import ImageModel, TrainImage
from components.data import picture, sample
from components.data.sample import Sample
from components.models import denoiser as denoisers
from components.models.denoiser import TEXT_WIDTH, Denoiser
from components.stage import StageError
from components.training import image, keeping
from components.training.image import adapted, merged
from tests.tiny_image import SHAPE as TINY
from tests.tiny_image import tiny_denoiser

SHAPE = ImageModel(size=8, patch=4, hidden=32, layers=1, heads=2, text_tokens=4)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}


class Encoder:
    """Stands in for MiniLM: a caption's states are noise drawn by its letters."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def encode(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        states = [
            torch.randn(self.tokens, TEXT_WIDTH, generator=torch.Generator().manual_seed(sum(map(ord, caption))))
            for caption in captions
        ]
        return torch.stack(states), torch.ones(len(captions), self.tokens, dtype=torch.bool)

    def cut(self, captions: Sequence[str]) -> int:
        return sum(caption.startswith("green") for caption in captions)


def settings(**changes: object) -> TrainImage:
    defaults = {
        "seed": 7,
        "max_steps": 30,
        "batch_size": 8,
        "learning_rate": 0.01,
        "precision": "fp32",
        "strategy": "auto",
        "devices": 1,
        "checkpoint_every": 10,
        "start_from_base": False,
        "lora_rank": None,
        "caption_dropout": 0.1,
        "ema_decay": 0.9,
        "model": SHAPE,
        "regularisation": {"path": Path("data/regularisation"), "share": 0.0, "weight": 1.0},
    }
    return TrainImage.model_validate({**defaults, **changes})


def squares() -> list[Sample]:
    samples = []
    for index, (name, colour) in enumerate(list(COLOURS.items()) * 3):
        pixels = np.full((8, 8, 3), 255, dtype=np.uint8)
        pixels[1:-1, 1:-1] = colour
        png = picture.encode_png(pixels)
        samples.append(Sample(str(index), f"{name}: square", png, meta={"name": name}))
    return samples


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for constant in ("SPLIT", "BASE", "CHECKPOINT", "METRICS", "STATE"):
        monkeypatch.setattr(image, constant, tmp_path / constant.lower())
    monkeypatch.setattr(image, "TextEncoder", Encoder)
    sample.write(image.SPLIT / "train.parquet", squares())
    sample.write(image.SPLIT / "validation.parquet", squares()[:4])
    seal(image.SPLIT, line="image", kind="data", parents={}, parameters={}, metrics={})
    return tmp_path


def test_the_stage_learns_and_seals_what_it_learnt() -> None:
    metrics = image.train(settings())
    assert metrics["validation_loss"] < 0.9 * metrics["validation_loss_before"]
    assert metrics["captions_cut"] == 3
    assert json.loads((image.METRICS / "train.json").read_text()) == metrics
    assert len((image.METRICS / "train.csv").read_text().splitlines()) == 31
    manifest = verify(image.CHECKPOINT)
    assert (manifest.kind, manifest.parents) == ("checkpoint", {"data": verify(image.SPLIT).digest})
    held_out = image.batch_of(squares()[:4], 8, Encoder(4))
    assert image.held_out_loss(denoisers.load(image.CHECKPOINT), held_out, 7) == metrics["validation_loss"]
    assert not image.STATE.exists()


def test_5_pictures_without_a_caption_are_learnt_by_leaving_captions_out() -> None:
    never, often = (image.train(settings(caption_dropout=share)) for share in (0.0, 0.5))
    assert often["validation_loss_uncaptioned"] < 0.9 * never["validation_loss_uncaptioned"]


def test_the_same_parameters_give_the_same_checkpoint() -> None:
    image.train(settings(max_steps=4))
    first = verify(image.CHECKPOINT).digest
    image.train(settings(max_steps=4))
    assert verify(image.CHECKPOINT).digest == first
    image.train(settings(max_steps=4, seed=8))
    assert verify(image.CHECKPOINT).digest != first


def test_a_base_is_where_training_starts_and_a_parent() -> None:
    long = image.train(settings())
    image.CHECKPOINT.rename(image.BASE)
    short = image.train(settings(max_steps=1, learning_rate=1e-6, start_from_base=True))
    assert short["validation_loss_before"] == pytest.approx(long["validation_loss"])
    assert verify(image.CHECKPOINT).parents["base"] == verify(image.BASE).digest


def test_an_adapter_learns_from_the_base_and_leaves_a_plain_checkpoint() -> None:
    image.train(settings())
    image.CHECKPOINT.rename(image.BASE)
    sample.write(image.SPLIT / "train.parquet", [replace(s, text=s.text.swapcase()) for s in squares()])
    sample.write(image.SPLIT / "validation.parquet", [replace(s, text=s.text.swapcase()) for s in squares()[:4]])
    seal(image.SPLIT, line="image", kind="data", parents={}, parameters={}, metrics={})
    metrics = image.train(settings(start_from_base=True, lora_rank=2))
    assert metrics["validation_loss"] < 0.9 * metrics["validation_loss_before"]
    adapted, base = (denoisers.load(folder).state_dict() for folder in (image.CHECKPOINT, image.BASE))
    assert adapted.keys() == base.keys()
    changed = [name for name in base if not torch.equal(adapted[name], base[name])]
    assert changed and not any(name.endswith("bias") for name in changed), "an adapter trains no biases"
    first = verify(image.CHECKPOINT).digest
    image.train(settings(start_from_base=True, lora_rank=2))
    assert verify(image.CHECKPOINT).digest == first


def test_what_the_base_rehearses_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    image.train(settings(max_steps=60))
    image.CHECKPOINT.rename(image.BASE)
    known = [(f"{name}: square", name) for name in COLOURS]
    monkeypatch.setattr(keeping, "base_captions", lambda count, seed, rehearsed: known[:count])
    turned = [replace(s, image=picture.encode_png(255 - picture.decode(s.image or b"", 8))) for s in squares()]
    for side, samples in (("train", turned), ("validation", turned[:4])):
        sample.write(image.SPLIT / f"{side}.parquet", [replace(s, text=s.text.swapcase(), meta={}) for s in samples])
    seal(image.SPLIT, line="image", kind="data", parents={}, parameters={}, metrics={})
    held_out, lost = image.batch_of(squares()[:4], 8, Encoder(4)), {}
    for share in (0.0, 0.5):
        metrics = image.train(settings(start_from_base=True, rehearsed=share))
        assert metrics["samples"] == 12 and metrics["validation_loss"] < 0.9 * metrics["validation_loss_before"]
        lost[share] = image.held_out_loss(denoisers.load(image.CHECKPOINT), held_out, 7)
    assert lost[0.5] < 0.8 * lost[0.0], lost


def test_9_the_weights_of_the_smallest_held_out_loss_are_kept() -> None:
    opposite = [replace(s, image=picture.encode_png(255 - picture.decode(s.image or b"", 8))) for s in squares()[:4]]
    sample.write(image.SPLIT / "validation.parquet", opposite)
    seal(image.SPLIT, line="image", kind="data", parents={}, parameters={}, metrics={})
    metrics = image.train(settings(max_steps=60, keep_step="best"))
    held_out = image.batch_of(opposite, 8, Encoder(4))
    assert metrics["kept_step"] < 60 and metrics["steps"] == 60
    assert image.held_out_loss(denoisers.load(image.CHECKPOINT), held_out, 7) == metrics["validation_loss"]


def test_9_a_strength_keeps_a_share_of_what_was_learnt() -> None:
    image.train(settings(max_steps=1))
    image.CHECKPOINT.rename(image.BASE)
    weights = [denoisers.load(image.BASE).state_dict()]
    for strength in (0.5, 1.0):
        assert image.train(settings(start_from_base=True, strength=strength))["strength"] == strength
        weights.append(denoisers.load(image.CHECKPOINT).state_dict())
    base, half, whole = weights
    assert all(torch.allclose(half[name], (base[name] + whole[name]) / 2, atol=1e-6) for name in base)
    assert any(not torch.equal(base[name], whole[name]) for name in base)


def test_9_a_style_leads_the_captions_of_training() -> None:
    batch = image.batch_of(squares()[:1], 8, Encoder(4), partial(image.whole_and_name, style="own"))
    whole, name = Encoder(4).encode(["own style: red: square", "own style: red"])[0]
    assert torch.equal(batch.states[0, 0], whole) and torch.equal(batch.states[0, 1], name)


def test_rehearsal_without_a_base_is_refused() -> None:
    with pytest.raises(ValueError, match="rehearsed and strength keep what a base knows"):
        settings(rehearsed=0.5)


def test_a_base_of_another_shape_is_refused() -> None:
    image.train(settings(max_steps=1))
    image.CHECKPOINT.rename(image.BASE)
    wider = SHAPE.model_copy(update={"hidden": 64})
    with pytest.raises(StageError, match="is not the base's"):
        image.train(settings(start_from_base=True, model=wider))


def test_changed_data_is_refused_before_training() -> None:
    sample.write(image.SPLIT / "train.parquet", squares()[:5])
    with pytest.raises(ArtifactError, match=r"train\.parquet was changed"):
        image.train(settings())
    assert not image.CHECKPOINT.exists()


def test_no_samples_is_an_error_in_words() -> None:
    with pytest.raises(StageError, match="no samples"):
        image.batch_of([], 8, Encoder(4))


def test_half_of_the_captions_are_the_name_alone() -> None:
    batch = image.batch_of(squares()[:1], 8, Encoder(4))
    whole, name = Encoder(4).encode(["red: square", "red"])[0]
    assert torch.equal(batch.states[0, 0], whole) and torch.equal(batch.states[0, 1], name)
    assert batch.pixels().shape == (1, 3, 8, 8)
    assert float(batch.pixels()[0, 0, 4, 4]) == 1.0 and float(batch.pixels()[0, 1, 4, 4]) == -1.0


def test_13_the_loss_of_a_perfect_network_is_zero_at_every_time_and_bounded_near_the_picture() -> None:
    data, noise = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.001, 0.02, 0.05, 0.9])

    def loss(error: float, time_B: torch.Tensor) -> float:
        class Network(torch.nn.Module):
            """Predicts the picture, off by `error` everywhere."""

            def forward(self, x: torch.Tensor, t: torch.Tensor, *caption: torch.Tensor) -> torch.Tensor:
                return (x - data - error) / t.view(-1, 1, 1, 1)

        return float(image.flow_loss(Network(), data, noise, time_B, torch.empty(0), torch.empty(0)))

    assert loss(0.0, times) == pytest.approx(0, abs=1e-6)
    expected = [(0.1 / max(time, 0.05)) ** 2 for time in times.tolist()]
    assert loss(0.1, times) == pytest.approx(sum(expected) / 4, rel=1e-3)


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
    adapters = [n for n, _ in adapted(Denoiser(TINY), rank=2).named_parameters() if "lora_A" in n]
    assert len(adapters) == len(linear)


def test_only_a_denoisers_adapter_is_merged() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.ModuleDict({"to_q": nn.Linear(4, 4)})

    with pytest.raises(TypeError, match="found Other"):
        merged(adapted(Other(), rank=2))  # type: ignore[arg-type]


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 3, 4, 4, generator=generator), torch.randn(3, 3, 4, 4, generator=generator)


def test_path_runs_from_data_to_noise() -> None:
    data, noise = pair()
    path = image.interpolate(data, noise, torch.tensor([0.0, 1.0, 0.5]))
    assert torch.equal(path[0], data[0])
    assert torch.equal(path[1], noise[1])
    assert torch.allclose(path[2], (data[2] + noise[2]) / 2)


def test_the_target_velocity_leads_from_noise_back_to_the_data() -> None:
    data, noise = pair()
    assert torch.allclose(noise - image.velocity_target(data, noise), data, atol=1e-5)


def test_times_lie_inside_the_path_and_lean_towards_noise() -> None:
    torch.manual_seed(0)
    times = image.logit_normal_times(2000)
    assert times.min() > 0 and times.max() < 1
    assert abs(times.median() - torch.sigmoid(torch.tensor(image.TIME_SHIFT))) < 0.02


def test_captions_of_other_scripts_are_named_once_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    captions = ["a red apple", "ein schöner Apfel 3/4", "красное яблоко", "赤いりんご"]
    image.say_other_scripts([Sample(id=text, text=text) for text in captions])
    said = capsys.readouterr().out
    assert said.startswith("train image: 2 of 4 captions hold letters of other scripts, such as 'красное яблоко'")
    image.say_other_scripts([Sample(id="a", text="a red apple")])
    assert capsys.readouterr().out == ""
