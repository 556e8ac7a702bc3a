"""Make the image line's base: the same training as `components.training.image`, from scratch and for much longer.

Run by hand, seldom: its result is shipped in components/models/base/image (half precision) with the ids of the samples
it has seen, so that an evaluation can prove that its own were not among them. docs/base_image.md records the run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import lightning.pytorch as pl
import torch
import typer

from components.artifact import canonical, seal, staged, verify, write_text
from components.config import ImageModel, TrainImage
from components.data import sample
from components.data.sample import Sample
from components.models import denoiser as denoisers
from components.models.denoiser import Denoiser
from components.models.text_encoder import TextEncoder
from components.stage import run
from components.training import image, trainer

STATE = Path(".atelier/training/base-image")
RECIPE = TrainImage(
    seed=7,
    max_steps=12_000,
    batch_size=32,  # on a fixed budget of pictures, more and smaller steps
    learning_rate=1e-3,
    precision="bf16",
    strategy="auto",
    devices=1,
    checkpoint_every=200,
    start_from_base=False,
    caption_dropout=0.1,
    ema_decay=0.998,
    model=ImageModel(size=32, patch=4, hidden=192, layers=6, heads=6, text_tokens=12),
)
EXCLUDED_SUBGROUPS = frozenset({"country-flag", "subdivision-flag"})  # near-identical at 32 px, and nothing names them


def select(samples: list[Sample]) -> list[Sample]:
    """The samples a base learns from: no flags and one skin tone, so that no concept outweighs the others."""
    kept = [s for s in samples if not s.meta.get("tone") and s.meta.get("subgroup") not in EXCLUDED_SUBGROUPS]
    return sorted(kept, key=lambda s: s.id)


def digest(samples: list[Sample]) -> str:
    """SHA-256 over the samples' contents, whatever file they came from."""
    total = hashlib.sha256()
    for s in samples:
        total.update(canonical([s.id, s.text, hashlib.sha256(s.image or b"").hexdigest()]).encode())
    return total.hexdigest()


def main(
    steps: Annotated[
        int, typer.Option(help="Learning rate 0 is here; may change when a run goes on.")
    ] = RECIPE.max_steps,
    data: Annotated[Path, typer.Option(help="Folder of the split: a sealed data version.")] = image.SPLIT,
) -> None:
    config = RECIPE.model_copy(update={"max_steps": steps})
    pl.seed_everything(config.seed, verbose=False)
    encoder = TextEncoder(tokens=config.model.text_tokens)
    samples = select(sample.read(data / "train.parquet"))
    batch = image.batch_of(samples, config.model.size, encoder)
    held_out = image.batch_of(select(sample.read(data / "validation.parquet")), config.model.size, encoder)
    key = trainer.state_key(config.model_dump(mode="json", exclude={"max_steps"}), digest(samples))
    denoiser, losses = image.fit(Denoiser(config.model), batch, encoder, config, state_dir=STATE, key=key)
    metrics = image.summary(denoiser, batch, held_out, losses, config.seed)
    with staged(image.BASE) as folder:
        denoisers.save(denoiser, folder, torch.float16)
        write_text(folder / "training_ids.json", canonical([s.id for s in samples]))
        trainer.write_losses(folder / "train.csv", losses)
        parameters = config.model_dump(mode="json") | {"dtype": "float16", "samples_digest": digest(samples)}
        parents = {"data": verify(data).digest}
        seal(folder, line="image", kind="base", parents=parents, parameters=parameters, metrics=metrics)


if __name__ == "__main__":
    run(main)
