"""Stage: fine-tune the image line's denoiser by flow matching on captioned pictures, whole or by an adapter.

Reads data/image/split and (with `start_from_base`) the shipped base; writes artifacts/image/checkpoint and
metrics/image/train.{json,csv}. Captions are encoded once, before training. Knows nothing of sampling. Where
`base.image.model` names a pipeline, `components.training.pipeline` trains that instead.

Flow matching with straight paths (Lipman et al. 2023, arXiv:2210.02747): x_t = (1 - t) x_0 + t x_1 and velocity =
x_1 - x_0, with data x_0 (t = 0) and noise x_1 (t = 1). Logit-normal times are those of Esser et al. 2024
(arXiv:2403.03206). The adapter is LoRA (Hu et al. 2021, arXiv:2106.09685), merged into plain weights afterwards.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from components.artifact import canonical, read_manifest, seal, staged, verify
from components.config import TrainImage, load
from components.data import sample
from components.data.pixels import pixels
from components.data.sample import Sample
from components.models import brought_pipeline
from components.models import denoiser as denoisers
from components.models import judge as judges
from components.models.denoiser import Denoiser
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_BASE as BASE
from components.paths import IMAGE_CHECKPOINT as CHECKPOINT
from components.paths import IMAGE_METRICS as METRICS
from components.paths import IMAGE_SPLIT as SPLIT
from components.paths import TRAINING_STATE
from components.runtimes.image import led
from components.stage import StageError, run
from components.training import keeping, pipeline, trainer
from components.training.trainer import Fitted, TrainingModule

STATE = TRAINING_STATE / "image"
TIME_SHIFT = 0.6  # of the normal distribution of which times are drawn: densest around 2/3
MIN_TIME = 0.05  # the velocity's error is the picture's divided by the time: below it, few samples would outweigh all
# Of the adapter: every linear layer of the transformer.
LAYERS = r".*\.(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|linear|linear_1|linear_2|proj_out)"


class Batch(NamedTuple):
    """Pictures uint8 BCHW; states BALD and masks BAL of each one's A alternative captions, the whole one first."""

    pictures: Tensor
    states: Tensor
    masks: Tensor

    def take(self, indices: list[int]) -> Batch:
        chosen = torch.tensor(indices, device=self.pictures.device)
        return Batch(self.pictures[chosen], self.states[chosen], self.masks[chosen])

    def to(self, device: torch.device) -> Batch:
        return Batch(*(tensor.to(device) for tensor in self))

    def joined(self, other: Batch) -> Batch:
        """Both, where each picture of `other` has one caption: it stands for all of the alternatives."""
        alternatives = self.states.shape[1]
        states, masks = (tensor.expand(-1, alternatives, *tensor.shape[2:]) for tensor in (other.states, other.masks))
        return Batch(*map(torch.cat, zip(self, (other.pictures, states, masks), strict=True)))

    def captioned(self, states_BLD: Tensor, masks_BL: Tensor) -> Batch:
        """The same pictures, all with one other caption, which is a batch of one."""
        count = len(self.pictures)
        return Batch(self.pictures, states_BLD.expand(count, 1, -1, -1), masks_BL.expand(count, 1, -1))

    def pixels(self) -> Tensor:
        """Float pictures BCHW in [-1, 1]."""
        return self.pictures.float() / 127.5 - 1


class FlowMatching(TrainingModule):
    """One training step: noise a picture, predict its velocity, squared error. Some captions are left out."""

    def __init__(self, denoiser: nn.Module, empty: tuple[Tensor, Tensor], config: TrainImage) -> None:
        super().__init__(config)
        self.denoiser = denoiser
        self.config: TrainImage = config
        # Copies: the encoder's are inference tensors, and DDP sends its buffers from rank to rank.
        self.register_buffer("empty_LD", empty[0].clone(), persistent=False)
        self.register_buffer("empty_mask_L", empty[1].clone(), persistent=False)

    def loss(self, batch: Batch) -> Tensor:
        """The mean over this rank's samples; ranks have equally many, so that the step's loss is the mean of theirs."""
        device, samples = batch.pictures.device, len(batch.pictures)
        chosen_B, dropped_B, time_B, noise_BCHW = (drawn[self.share] for drawn in self._draw(batch))
        rows = torch.arange(samples, device=device)
        text_BLD = torch.where(dropped_B[:, None, None], self.empty_LD, batch.states[rows, chosen_B])
        mask_BL = torch.where(dropped_B[:, None], self.empty_mask_L, batch.masks[rows, chosen_B])
        with attention(device):
            return flow_loss(self.denoiser, batch.pixels(), noise_BCHW, time_B, text_BLD, mask_BL)

    def _draw(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For every sample of the step: which caption, whether it is left out, the time and the noise."""
        generator, device = self.generator(), batch.pictures.device
        count = len(batch.pictures) * self.trainer.world_size
        chosen = torch.randint(batch.states.shape[1], (count,), generator=generator, device=device)
        dropped = torch.rand(count, generator=generator, device=device) < self.config.caption_dropout
        time = logit_normal_times(count, device, generator)
        noise = torch.randn((count, *batch.pictures.shape[1:]), generator=generator, device=device)
        return chosen, dropped, time, noise

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.config.rate, weight_decay=0.01)


def attention(device: torch.device) -> AbstractContextManager[None]:
    """The faster attention to train with: on a CPU not the fused one.

    In bf16 its backward pass took more than half of a step: 0.53 s for 32 pictures, 0.33 s without it, on 2 cores.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def flow_loss(
    denoiser: nn.Module, data_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor, text_BLD: Tensor, mask_BL: Tensor
) -> Tensor:
    """Mean squared error of the predicted velocity at each sample's time; below `MIN_TIME`, as at that time."""
    noisy_BCHW = interpolate(data_BCHW, noise_BCHW, time_B)
    velocity_BCHW = denoiser(noisy_BCHW, time_B, text_BLD, mask_BL)
    error_BCHW = velocity_BCHW.float() - velocity_target(data_BCHW, noise_BCHW)
    return (error_BCHW * (time_B / MIN_TIME).clamp_max(1).view(-1, 1, 1, 1)).square().mean()


def logit_normal_times(
    count: int, device: torch.device | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """`count` times in (0, 1), densest where it is decided what a picture shows."""
    return torch.sigmoid(torch.randn(count, device=device, generator=generator) + TIME_SHIFT)


def interpolate(data_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
    """The point of the straight path at each sample's own time."""
    time_B111 = time_B.view(-1, 1, 1, 1)
    return (1 - time_B111) * data_BCHW + time_B111 * noise_BCHW


def velocity_target(data_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
    """The constant velocity of the straight path from data to noise."""
    return noise_BCHW - data_BCHW


@torch.inference_mode()
def held_out_loss(denoiser: nn.Module, batch: Batch, seed: int) -> float:
    """The loss on unseen samples with fixed noise and evenly spread times, so that runs compare."""
    generator = torch.Generator().manual_seed(seed)
    denoiser.eval()
    total, samples = 0.0, len(batch.pictures)
    for start in range(0, samples, 64):
        part = batch.take(list(range(start, min(start + 64, samples))))
        count = len(part.pictures)
        noise_BCHW = torch.randn(part.pictures.shape, generator=generator)
        time_B = (torch.arange(count) + 0.5) / count
        loss = flow_loss(denoiser, part.pixels(), noise_BCHW, time_B, part.states[:, 0], part.masks[:, 0])
        total += float(loss) * count
    return total / samples


def whole_and_name(s: Sample, style: str | None = None) -> list[str]:
    """Half of the captions are the name alone, so that short prompts work as well as tagged ones."""
    return [led(text, style) for text in (s.text, str(s.meta.get("name") or s.text))]


def batch_of(
    samples: list[Sample],
    size: int,
    encoder: TextEncoder,
    captions: Callable[[Sample], list[str]] = whole_and_name,
) -> Batch:
    """All samples as one batch, pictures decoded and captions encoded; raises `StageError` where there are none."""
    if not samples:
        raise StageError("no samples to train or evaluate on; loosen `clean` or add data")
    states, masks = encoder.encode([text for s in samples for text in captions(s)])
    return Batch(
        pixels(samples, size),
        states.view(len(samples), -1, *states.shape[1:]),
        masks.view(len(samples), -1, masks.shape[-1]),
    )


def captions_cut(samples: list[Sample], encoder: TextEncoder, style: str | None = None) -> int:
    """How many captions are longer than the encoder reads; said in one line before the training begins."""
    cut = encoder.cut([led(s.text, style) for s in samples])
    if cut and trainer.is_writer():
        pieces = encoder.tokens - 2  # without the marks of beginning and end
        print(f"train image: {cut} of {len(samples)} captions are cut after {pieces} word pieces", flush=True)
    return cut


def say_other_scripts(samples: list[Sample]) -> None:
    """Say once how many captions hold letters that the built-in text encoder, which reads English, cannot read."""
    other = [s.text for s in samples if any(c.isalpha() and "LATIN" not in unicodedata.name(c, "") for c in s.text)]
    if other and trainer.is_writer():
        print(
            f"train image: {len(other)} of {len(samples)} captions hold letters of other scripts, such as "
            f"{other[0][:60]!r}: the built-in text encoder reads English alone; translate them into English",
            flush=True,
        )


def adapted(denoiser: Denoiser, rank: int) -> PeftModel:
    """`denoiser` with an adapter, which alone is trainable and changes nothing yet; scaled so that rank is no gain."""
    return get_peft_model(denoiser, LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS))


def merged(network: PeftModel) -> Denoiser:
    """The denoiser with the adapter's product added to its weights."""
    denoiser = network.merge_and_unload()
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"expected a Denoiser under the adapter, found {type(denoiser).__name__}")
    return denoiser


def fit(
    denoiser: Denoiser,
    batch: Batch,
    encoder: TextEncoder,
    config: TrainImage,
    *,
    state_dir: Path,
    key: str,
    held_out: Batch | None = None,
) -> tuple[Denoiser, Fitted]:
    """Train and return a denoiser of averaged weights, an adapter merged into them, and how it went.

    The weights are the last ones or, with `held_out`, those of the smallest loss on it.
    """
    states, masks = encoder.encode([""])
    averaged = Denoiser(config.model)
    averaged.load_state_dict(denoiser.state_dict())
    rank = config.lora_rank
    network = adapted(averaged, rank) if rank else averaged

    def loss(weights: trainer.Weights, unseen: Batch) -> float:
        Fitted([], weights, 0).load_into(network, "denoiser")
        return held_out_loss(network, unseen, config.seed)

    fitted = trainer.fit(
        FlowMatching(adapted(denoiser, rank) if rank else denoiser, (states[0], masks[0]), config),
        len(batch.pictures),
        lambda indices, step: batch.take(indices),
        config,
        state_dir=state_dir,
        key=key,
        ema_decay=config.ema_decay,
        held_out=None if held_out is None else partial(loss, unseen=held_out),
    )
    fitted.load_into(network, "denoiser")
    return (merged(network) if isinstance(network, PeftModel) else network).eval(), fitted


def start(config: TrainImage) -> tuple[Denoiser, dict[str, str]]:
    """The denoiser training starts from, and the digest of the base it came from (if any) as a parent."""
    pl.seed_everything(config.seed, verbose=False)
    if not config.start_from_base:
        return Denoiser(config.model), {}
    base = denoisers.load(BASE)
    if base.shape != config.model:
        raise StageError(f"train.image.model {config.model} is not the base's {base.shape}; set start_from_base: false")
    return base.train(), {"base": read_manifest(BASE).digest}


def train(config: TrainImage) -> dict[str, Any]:
    """The stage: returns its metrics. Under several processes only the first one writes."""
    data = verify(SPLIT)
    settings = _settings(config)
    encoder = TextEncoder(tokens=config.model.text_tokens)
    samples = sample.read(SPLIT / "train.parquet")
    say_other_scripts(samples)
    cut = captions_cut(samples, encoder, config.style)
    captions = partial(whole_and_name, style=config.style)
    batch = batch_of(samples, config.model.size, encoder, captions)
    held_out = batch_of(sample.read(SPLIT / "validation.parquet"), config.model.size, encoder, captions)
    denoiser, parents = start(config)
    base = deepcopy(denoiser)
    before = held_out_loss(denoiser, held_out, config.seed)
    parents = {"data": data.digest, **parents}
    key = trainer.state_key(settings, canonical(parents))
    learnt = batch
    if config.rehearsed:
        learnt = batch.joined(rehearsed(base, encoder, config.rehearsed, len(samples), config.seed))
    unseen = held_out if config.keep_step == "best" else None
    tuned, fitted = fit(denoiser.train(), learnt, encoder, config, state_dir=STATE, key=key, held_out=unseen)
    averaged, strength = at_strength(base, tuned, samples, encoder, config)
    metrics = {"validation_loss_before": before, **summary(averaged, batch, held_out, fitted.losses, config.seed)}
    metrics |= {"kept_step": fitted.kept, "strength": strength}
    uncaptioned = held_out.captioned(*encoder.encode([""]))  # half of what guidance is made of
    metrics |= {"validation_loss_uncaptioned": held_out_loss(averaged, uncaptioned, config.seed), "captions_cut": cut}
    if trainer.is_writer():
        write(averaged, settings, parents, metrics, fitted.losses)
        trainer.discard(STATE)
    return metrics


def rehearsed(base: Denoiser, encoder: TextEncoder, share: float, samples: int, seed: int) -> Batch:
    """What the base rehearses beside so many samples."""
    pictures_BCHW, captions = keeping.rehearsal(base, encoder, share, samples, seed)
    states_BLD, masks_BL = encoder.encode(captions)
    return Batch(pictures_BCHW, states_BLD[:, None], masks_BL[:, None])


def at_strength(
    base: Denoiser, tuned: Denoiser, samples: list[Sample], encoder: TextEncoder, config: TrainImage
) -> tuple[Denoiser, float]:
    """The denoiser that goes on, and how far on the way from the base to the fine-tuned one it lies."""
    if config.strength == 1:
        return tuned, 1.0
    if config.strength is not None:
        return keeping.between(base, tuned, config.strength), config.strength
    asked = random.Random(config.seed).sample(samples, min(keeping.ASKED, len(samples)))  # noqa: S311 - a sample
    prompts = [led(s.text, config.style) for s in asked]
    return keeping.strongest(base, tuned, asked, prompts, encoder, judges.load(), config.seed)


def summary(
    denoiser: Denoiser, batch: Batch, held_out: Batch, losses: list[tuple[int, float]], seed: int
) -> dict[str, float | int]:
    """What a finished training is judged by at first sight."""
    last = [loss for _, loss in losses[-50:]]
    return {
        "train_loss": sum(last) / len(last),
        "validation_loss": held_out_loss(denoiser, held_out, seed),
        "samples": len(batch.pictures),
        "steps": len(losses),
    }


def write(
    averaged: Denoiser,
    parameters: dict[str, Any],
    parents: dict[str, str],
    metrics: dict[str, Any],
    losses: list[tuple[int, float]],
) -> None:
    """The sealed checkpoint and the metrics."""
    trainer.write_metrics(METRICS, metrics, losses)
    with staged(CHECKPOINT) as folder:
        denoisers.save(averaged, folder)
        seal(folder, line="image", kind="checkpoint", parents=parents, parameters=parameters, metrics=metrics)


def _settings(config: TrainImage) -> dict[str, Any]:
    """The settings as they are recorded; raises `StageError` where one is for pipelines alone."""
    try:
        return config.for_built_in()
    except ValueError as error:
        raise StageError(str(error)) from error


def main() -> None:
    """Train what `base.image.model` names."""
    settings = load()
    built_in = settings.base.image.is_built_in
    config = settings.train.image.decided(built_in=built_in)
    if built_in:
        train(config)
    elif config.rehearsed or config.style or config.strength != 1 or config.keep_step != "last":
        raise StageError(
            "train.image.rehearsed, style, strength and keep_step are for the built-in model; base.image.model names a "
            "pipeline: set all four to null"
        )
    else:
        pipeline.train(config, settings.clean.image, *brought_pipeline.opened())


if __name__ == "__main__":
    run(main)
