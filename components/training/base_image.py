"""Make the image line's base: the same training as `components.training.image`, from scratch and for much longer.

Run by hand, seldom: its result is shipped in components/models/base/image (half precision) with the ids of the samples it
has seen, so that an evaluation can prove that its own were not among them. docs/base_image.md records the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import lightning.pytorch as pl
import torch
import typer

from components.artifact import canonical, file_digest, seal, staged, write_text
from components.config import ImageModel, TrainImage
from components.data import sample
from components.models import denoiser as denoisers
from components.models.denoiser import Denoiser
from components.models.text_encoder import TextEncoder
from components.stage import run
from components.training import image, trainer

STATE = Path(".atelier/training/base-image")
RECIPE = TrainImage(
    seed=7,
    max_steps=6000,
    batch_size=64,
    learning_rate=1e-3,
    precision="bf16",
    strategy="auto",
    devices=1,
    checkpoint_every=100,
    start_from_base=False,
    caption_dropout=0.1,
    ema_decay=0.999,
    model=ImageModel(size=32, patch=4, hidden=192, layers=6, heads=6, text_tokens=12),
)


def main(
    steps: Annotated[int, typer.Option(help="The learning rate reaches 0 here; may change when a run goes on.")] = 6000,
    data: Annotated[Path, typer.Option(help="Training samples (Parquet).")] = image.SPLIT / "train.parquet",
    validation: Annotated[Path, typer.Option(help="Held-out samples.")] = image.SPLIT / "validation.parquet",
) -> None:
    config = RECIPE.model_copy(update={"max_steps": steps})
    pl.seed_everything(config.seed, verbose=False)
    encoder = TextEncoder(tokens=config.model.text_tokens)
    batch = image.read_batch(data, config.model.size, encoder)
    key = trainer.state_key(config.model_dump(mode="json", exclude={"max_steps"}), file_digest(data))
    denoiser, losses = image.fit(Denoiser(config.model), batch, encoder, config, state_dir=STATE, key=key)
    held_out = image.read_batch(validation, config.model.size, encoder)
    last = [loss for _, loss in losses[-50:]]
    metrics = {
        "train_loss": sum(last) / len(last),
        "validation_loss": image.held_out_loss(denoiser, held_out, config.seed),
        "samples": len(batch),
        "steps": len(losses),
    }
    with staged(image.BASE) as folder:
        denoisers.save(denoiser, folder, torch.float16)
        write_text(folder / "training_ids.json", canonical(sorted(s.id for s in sample.read(data))))
        trainer.write_losses(folder / "train.csv", losses)
        parameters = config.model_dump(mode="json") | {"dtype": "float16"}
        parents = {"data": file_digest(data)}
        seal(folder, line="image", kind="base", parents=parents, parameters=parameters, metrics=metrics)


if __name__ == "__main__":
    run(main)
