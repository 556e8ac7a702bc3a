"""Make the image line's base: the same training as `components.training.image`, from scratch and for much longer.

Run by hand, seldom, best on a GPU: its result is shipped in components/models/base/image (half precision) with the ids
of the samples it has seen, so that an evaluation can prove that its own were not among them. Learns from several
artists' drawings at once (`infra.base.emoji_sets`), half of the captions naming the style. docs/base_image.md
records the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import lightning.pytorch as pl
import torch
import typer

from components.artifact import canonical, seal, staged, verify, write_text
from components.config import ImageModel, Regularisation, TrainImage
from components.data import openmoji, sample
from components.data.sample import Sample
from components.models import denoiser as denoisers
from components.models.denoiser import Denoiser
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_BASE, REGULARISATION, TRAINING_STATE
from components.stage import run
from components.training import image, trainer
from infra.base import emoji_sets

STATE = TRAINING_STATE / "base-image"
RECIPE = TrainImage(
    seed=7,
    max_steps=36_000,
    batch_size=1024,
    learning_rate=1e-3,
    precision="bf16",
    strategy="auto",
    devices=1,
    checkpoint_every=1000,
    start_from_base=False,
    lora_rank=None,
    caption_dropout=0.1,
    ema_decay=0.999,
    regularisation=Regularisation(path=REGULARISATION, share=0.0, weight=1.0),
    model=ImageModel(size=64, patch=8, hidden=256, layers=7, heads=8, text_tokens=16),
)


def captions(s: Sample) -> list[str]:
    """The whole caption and the name, as they are and with the style before them."""
    plain = image.whole_and_name(s)
    return plain + [openmoji.styled(s.meta["style"], text) for text in plain]


def main(
    steps: Annotated[
        int, typer.Option(help="Learning rate 0 is here; may change when a run goes on.")
    ] = RECIPE.max_steps,
    data: Annotated[Path, typer.Option(help="What infra.base.emoji_sets wrote.")] = emoji_sets.STYLES,
    out: Annotated[Path, typer.Option(help="Where the finished base goes.")] = IMAGE_BASE,
) -> None:
    """Train the base and seal it in `out`."""
    config = RECIPE.model_copy(update={"max_steps": steps})
    pl.seed_everything(config.seed, verbose=False)
    parent = verify(data).digest
    encoder = TextEncoder(tokens=config.model.text_tokens)
    samples = sample.read(data / "train.parquet")
    batch = image.batch_of(samples, config.model.size, encoder, captions)
    held_out = image.batch_of(sample.read(data / "held_out.parquet"), config.model.size, encoder, captions)
    denoiser, resident = Denoiser(config.model), batch
    if torch.cuda.is_available():
        denoiser.compile()
        resident = batch.to(torch.device("cuda"))  # all of it fits, and a step then waits for no copy
    key = trainer.state_key(config.model_dump(mode="json", exclude={"max_steps"}), parent)
    denoiser, fitted = image.fit(denoiser, resident, encoder, config, state_dir=STATE, key=key)
    metrics = image.summary(denoiser, batch, held_out, fitted.losses, config.seed)
    with staged(out) as folder:
        denoisers.save(denoiser, folder, torch.float16)
        write_text(folder / "training_ids.json", canonical([s.id for s in samples]))
        trainer.write_losses(folder / "train.csv", fitted.losses)
        parameters = config.model_dump(mode="json") | {"dtype": "float16"}
        seal(folder, line="image", kind="base", parents={"data": parent}, parameters=parameters, metrics=metrics)


if __name__ == "__main__":
    run(main)
