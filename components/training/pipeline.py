"""Fine-tuning of a text-to-image pipeline that was brought: its network, whole or by an adapter, on cached latents.

What the network learns to predict is its family's; the loop, averages and exact resumption are `trainer`'s. An adapter
is written in the file format of diffusers, a whole network as diffusers saves one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from PIL import Image
from torch import Tensor, nn

from components.artifact import Manifest, canonical, seal, staged
from components.config import Clean, ImageSamples, TrainImage
from components.models.brought_pipeline import parameters as parameters_of
from components.models.pipelines import Family, States, adapters, family_of
from components.paths import ARTIFACTS, TRAINING_STATE
from components.paths import IMAGE_CHECKPOINT as CHECKPOINT
from components.paths import IMAGE_METRICS as METRICS
from components.stage import StageError
from components.training import pictures, trainer
from components.training.buckets import Order
from components.training.encoded import Batch, Encoded, Encoders, Item, sizes_in_words
from components.training.memory import memory, require_pipeline_room
from components.training.trainer import TrainingModule

STATE = TRAINING_STATE / "image"
SAMPLES = ARTIFACTS / "image/samples"  # sheets painted while training
TIMES = 8  # at which the loss of a held-out picture is measured: it varies more with the time than with the picture
Paint = Callable[[nn.Module, int], None]


class Training(TrainingModule):
    """One step: noise latents, predict what the family predicts. Some captions are left out."""

    def __init__(
        self, network: nn.Module, family: Family, folder: Path, empty: States, config: TrainImage, paint: Paint | None
    ) -> None:
        super().__init__(config)
        self.network = network.train()
        self.config: TrainImage = config
        self.family, self.empty, self.paint = family, empty, paint
        self.schedule = family.scheduler(folder)
        self.strict_loading = False  # a checkpoint holds what is trained; the frozen base comes from its own folder

    def loss(self, batch: Batch) -> Tensor:
        """The mean over this rank's samples; ranks have equally many, so that the step's loss is the mean of theirs."""
        dropped_B, uniform_B, noise_BCHW = (drawn[self.share] for drawn in self._draw(batch))
        states = left_out(batch.states, self.empty, dropped_B)
        time_B = self.family.times(self.schedule, uniform_B, batch.latents)
        count = len(batch.latents)
        size = self.config.micro_batch or count
        if size >= count:
            losses_B = self._losses(batch.latents, states, noise_BCHW, time_B, batch.masks)
            return (losses_B * batch.weights).mean()
        return self.summed(
            lambda part: (
                self._losses(
                    batch.latents[part], {name: value[part] for name, value in states.items()},
                    noise_BCHW[part], time_B[part], batch.masks[part],
                ) * batch.weights[part]
            ).sum() / count,
            [slice(start, start + size) for start in range(0, count, size)],
        )  # fmt: skip

    def _losses(
        self, latents_BCHW: Tensor, states: States, noise_BCHW: Tensor, time_B: Tensor, mask_B1HW: Tensor
    ) -> Tensor:
        """Of each sample."""
        return self.family.loss(
            self.network, self.schedule, latents_BCHW, states, noise_BCHW, time_B,
            min_snr=self.config.min_snr, mask_B1HW=mask_B1HW,
        )  # fmt: skip

    def _draw(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """For every sample of the step: whether its caption is left out, where its time lies, and the noise."""
        generator, device = self.generator(), batch.latents.device
        count = len(batch.latents) * self.trainer.world_size
        dropped = torch.rand(count, generator=generator, device=device) < self.config.caption_dropout
        uniform = torch.rand(count, generator=generator, device=device)
        noise = torch.randn((count, *batch.latents.shape[1:]), generator=generator, device=device)
        return dropped, uniform, noise

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        step, wanted = self.trainer.global_step, self.config.samples
        if self.paint is not None and wanted and self.trainer.is_global_zero and step % wanted.every == 0:
            self.paint(self.network, step)
            self.network.train()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.config.rate, weight_decay=0.01)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        checkpoint["state_dict"] = {n: v for n, v in checkpoint["state_dict"].items() if n in trained}


def left_out(states: States, empty: States, dropped_B: Tensor) -> States:
    """States in which those of the captions that are left out are the empty one's; how a picture was cut stays."""
    return {
        name: torch.where(dropped_B.view(-1, *[1] * (value.dim() - 1)), empty[name].to(value), value)
        if name in empty
        else value
        for name, value in states.items()
    }


def refuse(config: TrainImage, family: Family) -> None:
    """Raises `StageError` for settings that have no meaning for this pipeline; says which are not used."""
    if not config.start_from_base:
        raise StageError(
            "train.image.start_from_base: false trains the built-in model from random weights; a pipeline that was "
            "brought is fine-tuned: set it to true"
        )
    if config.min_snr is not None and not family.weighed_by_snr:
        raise StageError(f"train.image.min_snr: {family.pipeline} learns by flow matching, which knows no such weight")
    if config.lora_alpha is not None and config.lora_rank is None:
        raise StageError("train.image.lora_alpha scales an adapter, and lora_rank: null trains none: set it to null")
    if config.strategy.startswith("deepspeed"):
        raise StageError(f"train.image.strategy: {config.strategy} is not proved for pipelines: set auto or ddp")
    if trainer.is_writer():
        print("train image: train.image.model describes the built-in model and is not used", flush=True)
        print(f"train image: {step_in_words(config)}", flush=True)


def step_in_words(config: TrainImage) -> str:
    """What a step takes, and the learning rate, of settings that are decided."""
    own = config.batch_size // config.devices
    part = min(config.micro_batch or own, own)
    passes = 1 + bool(config.gradient_checkpointing)
    what = f"an adapter of rank {config.lora_rank}" if config.lora_rank else "every weight"
    return (
        f"{what} at a learning rate of {config.rate:g}; each of {config.max_steps} steps is {config.batch_size} "
        f"pictures, {part} at a time (micro_batch), with {passes} forward passes and a backward one of each"
    )


def network_of(family: Family, folder: Path, config: TrainImage) -> nn.Module:
    """The pipeline's network, ready to be trained: with an adapter of zeros, or every weight in float32."""
    pl.seed_everything(config.seed, verbose=False)
    frozen = torch.bfloat16 if config.precision == "bf16" else torch.float32
    network = family.read_network(folder, frozen if config.lora_rank else torch.float32)
    if config.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    if config.lora_rank:
        return adapters.add(network, family, config.lora_rank, config.lora_alpha or config.lora_rank)
    return network.requires_grad_(True)


@torch.no_grad()
def held_out_loss(
    network: nn.Module, family: Family, folder: Path, encoded: Encoded, held_out: list[Item], config: TrainImage,
    *, captioned: bool = True,
) -> float:  # fmt: skip
    """The mean loss on unseen pictures, each at `TIMES` times with fixed noise, so that runs compare.

    The times are even over all pictures, and one of each picture's lies in each of as many equal parts.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).eval()
    generator, schedule = torch.Generator().manual_seed(config.seed), family.scheduler(folder)
    empty, total = encoded.of_caption(None), 0.0
    for number, picture in enumerate(held_out):
        latents, states, masks, _ = encoded.batch([picture])
        if not captioned:
            states = left_out(states, empty, torch.tensor([True]))
        states = {name: value.to(device) for name, value in states.items()}
        for part in range(TIMES):
            noise = torch.randn(latents.shape, generator=generator).to(device)
            uniform = torch.tensor([(part + (number + 0.5) / len(held_out)) / TIMES])
            time = family.times(schedule, uniform, latents).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                losses = family.loss(
                    network, schedule, latents.to(device), states, noise, time, mask_B1HW=masks.to(device)
                )
                total += float(losses)
    return total / (TIMES * len(held_out))


def painter(family: Family, folder: Path, encoded: Encoded, wanted: ImageSamples, size: int, seed: int) -> Paint:
    """Paints a sheet of the prompts, side by side, from the same noise at every step."""
    rows = [encoded.of_caption(prompt) for prompt in wanted.prompts]
    states = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    empty = encoded.of_caption(None)

    def paint(network: nn.Module, step: int) -> None:
        device, dtype = next(network.parameters()).device, next(network.parameters()).dtype
        pipeline = family.read(folder, dtype, without=(family.network_name, *family.encoders))
        pipeline.register_modules(**{family.network_name: network.eval()})
        pipeline.to(device)
        ours, none = ({name: value.to(device, dtype) for name, value in given.items()} for given in (states, empty))
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            seeds = [seed + number for number in range(len(rows))]
            pictures_BCHW = family.paint(
                pipeline, ours, none, size=size, steps=wanted.steps, guidance=wanted.guidance, seeds=seeds
            )
        sheet_HWC = torch.cat(list(pictures_BCHW), dim=2).permute(1, 2, 0).add(1).mul(127.5).round().byte().cpu()
        SAMPLES.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet_HWC.numpy()).save(SAMPLES / f"step-{step:06d}.png")

    return paint


def train(config: TrainImage, clean: Clean, folder: Path, base: Manifest) -> dict[str, Any]:
    """The stage for a pipeline in `folder`, sealed as `base`: returns its metrics; the first process alone writes."""
    family = family_of(folder)
    refuse(config, family)
    if trainer.is_writer():  # the others start when this one has loaded it
        require_pipeline_room(parameters_of(folder), family.network_name, config, memory()[0])
    sides = config.sizes or (base.parameters["size"],)
    data = pictures.read(config, clean, family, folder, sides)
    encoded = _encoded(config, family, folder, base, [*data.learnt, *data.held_out])
    parents = {**data.parents, "base": base.digest}
    parameters = config.model_dump(mode="json", exclude={"model"})
    key = trainer.state_key(parameters, canonical(parents))
    network = network_of(family, folder, config)
    loss = partial(held_out_loss, family=family, folder=folder, encoded=encoded, held_out=data.held_out, config=config)
    before = loss(network)
    order = Order([item.cut.size for item in data.learnt], config.seed, config.batch_size, data.times)
    wanted = config.samples
    paint = painter(family, folder, encoded, wanted, sides[-1], config.seed) if wanted else None
    fitted = trainer.fit(
        Training(network, family, folder, encoded.of_caption(None), config, paint),
        len(data.learnt),
        lambda indices, step: encoded.batch([data.learnt[index] for index in indices]),
        config,
        state_dir=STATE,
        key=key,
        ema_decay=config.ema_decay,
        order=order,
    )
    del network  # it trained where it was, perhaps in pieces: the weights that count are `fitted`'s
    network = network_of(family, folder, config)
    fitted.load_into(network, "network")
    last = [loss for _, loss in fitted.losses[-50:]]
    metrics = {
        "train_loss": sum(last) / len(last),
        "validation_loss_before": before,
        "validation_loss": loss(network),
        "validation_loss_uncaptioned": loss(network, captioned=False),
        **data.figures,
        "steps": len(fitted.losses),
        **_regularised(config, data.own, order),
    }
    if trainer.is_writer():
        named = {name: base.parameters[name] for name in ("source", "family", "licence")}
        write(network, family, config, parents, {"base": named, **parameters}, metrics, fitted.losses)
        trainer.discard(STATE)
    return metrics


def _regularised(config: TrainImage, own: int, order: Order) -> dict[str, float]:
    """The share of all pictures that are drawn which come after the user's `own`, where any were asked for."""
    if not config.regularisation.share:
        return {}
    drawn = [index >= own for step in range(config.max_steps) for index in order(step)]
    return {"regularisation_share": sum(drawn) / len(drawn)}


def _encoded(config: TrainImage, family: Family, folder: Path, base: Manifest, wanted: list[Item]) -> Encoded:
    """The cache, filled with all that the run needs."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    encoded = Encoded(Encoders(family, folder, dtype, device), base.parameters["files"])
    prompts = config.samples.prompts if config.samples else ()
    captions = [*dict.fromkeys([*(picture.sample.text for picture in wanted), *prompts])]
    latents, states = encoded.fill(wanted, captions)
    if trainer.is_writer():
        computed = f"{latents} of {len(wanted)} latents and {states} of {len(captions) + 1} prompt states computed"
        print(f"train image: {computed}, the others cached; {sizes_in_words(wanted)}", flush=True)
    return encoded


def write(
    network: nn.Module,
    family: Family,
    config: TrainImage,
    parents: dict[str, str],
    parameters: dict[str, Any],
    metrics: dict[str, Any],
    losses: list[tuple[int, float]],
) -> None:
    """The sealed checkpoint and the metrics."""
    trainer.write_metrics(METRICS, metrics, losses)
    with staged(CHECKPOINT) as folder:
        if config.lora_rank:
            adapters.save(network, family, folder)
        else:
            network.save_pretrained(folder / family.network_name, safe_serialization=True)
        seal(folder, line="image", kind="checkpoint", parents=parents, parameters=parameters, metrics=metrics)
