"""What an epoch gains from cached latents and prompt states: `make bench NAME=models`.

The pipeline is Stable Diffusion XL's, random, at half of its widths: the largest of which an epoch with and without a
cache fits into two minutes of two cores. Both make the same step of the product's training on each picture, in turn:
one reads the cache, the other asks VAE and text encoders. Writes `caches` of `metrics/models.json`.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Annotated, Any, cast

import lightning.pytorch as pl
import torch
import typer

from components import config
from components.stage import run
from components.training import pipeline
from components.training.encoded import Batch, Encoded, Item, pixels
from tests.bench import sdxl
from tests.bench.records import record
from tests.bench.timing import Load, interleaved_seconds, paired_ratio

SHARE, SIZE, PICTURES = 0.5, 256, 4


def without_cache(encoded: Encoded, picture: Item) -> Batch:
    """What the cache holds, computed."""
    family, read = encoded.family, encoded.encoders.pipeline
    states = family.encode(read, [picture.sample.text])
    states |= family.framing(picture.original, picture.cut.corner, picture.cut.size)
    latents = family.to_latents(read, pixels(picture))
    return Batch(latents, states, torch.ones_like(latents[:, :1]), torch.ones(1))


def measured(share: float, size: int, rounds: int) -> dict[str, Any]:
    settings = config.load().train.image.decided(built_in=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "sdxl"
        parameters = sdxl.write_sdxl(folder, share)
        family, pictures, encoded = sdxl.family(), sdxl.pictures(PICTURES, size), sdxl.encoded(folder, folder / "cache")
        start = perf_counter()
        encoded.fill(pictures, [picture.sample.text for picture in pictures])
        filled = perf_counter() - start
        network = pipeline.network_of(family, folder, settings)
        module = pipeline.Training(network, family, folder, encoded.of_caption(None), settings, None)
        module.trainer = cast(pl.Trainer, SimpleNamespace(global_rank=0, world_size=1, global_step=0))
        optimizer = module.configure_optimizers()
        turns = {"cached": iter(range(10**6)), "computed": iter(range(10**6))}

        def step(name: str) -> None:
            picture = pictures[next(turns[name]) % len(pictures)]
            batch = encoded.batch([picture]) if name == "cached" else without_cache(encoded, picture)
            loss = module.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        with Load() as load:
            seconds = interleaved_seconds({name: partial(step, name) for name in turns}, rounds)
    mean = {name: sum(values) / len(values) for name, values in seconds.items()}
    return {
        "speedup": asdict(paired_ratio(seconds["computed"], seconds["cached"])),
        "seconds_a_picture": mean,
        "seconds_to_fill_a_picture": filled / len(pictures),
        "unet_parameters": parameters,
        "share_of_widths": share,
        "size": size,
        "machine": load.machine(),
    }


def main(tiny: Annotated[bool, typer.Option(help="an eighth of the widths, to try the bench")] = False) -> None:
    """Time epochs with the cache and without."""
    torch.manual_seed(0)
    row = measured(SHARE / 4, SIZE // 4, 6) if tiny else measured(SHARE, SIZE, 2 * PICTURES)
    record("caches", row)
    print(f"caches: {row['speedup']['ratio']:.2f} times as fast; {row['seconds_a_picture']}", flush=True)


if __name__ == "__main__":
    run(main)
