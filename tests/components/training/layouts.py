"""A project folder of either line, small enough to train in seconds, and the training stage run in it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components import config
from components.artifact import seal
from components.config.document import read_yaml, write_yaml
from components.data import picture, sample
from components.data.sample import PREFERRED, Sample
from components.models import denoiser as denoisers
from components.paths import ENCODER, TEXT_BASE, TEXT_SPLIT
from components.training import image, text
from tests.conftest import ROOT
from tests.tiny_image import CAPTIONS, SHAPE, tiny_denoiser, write_tiny_encoder
from tests.tiny_language import write_tiny_base

COMMON = {"max_steps": 6, "batch_size": 4, "checkpoint_every": 3, "precision": "fp32"}
SETTINGS: dict[str, dict[str, Any]] = {
    "text": {"learning_rate": 0.02, "learned_share": 0.0, "preference_weight": 1.0, "max_length": 256},
    "image": {"learning_rate": 0.01, "model": SHAPE.model_dump(), "rehearsed": 0.0, "strength": 1.0},
}
THINGS = ("an apple", "a heart", "a big red rocket", "dog", "a boat on the open sea", "tree", "sun", "a cup of tea")


def write_project(folder: Path, line: str, contrasts: Collection[int] = ()) -> Path:
    """A folder in which a line's training stage runs; the text pairs at `contrasts` are preferences."""
    {"text": write_text_inputs, "image": write_image_inputs}[line](folder, contrasts)
    return folder


def write_text_inputs(folder: Path, contrasts: Collection[int]) -> None:
    """Completions of 5 to 60 tokens, so that two ranks hardly ever have equally many."""
    write_tiny_base(folder / TEXT_BASE)
    rows = []
    for number, thing in enumerate(THINGS):
        meta = {"completion": f"{thing}: " + "flat sticker, " * (number % 4)}
        meta |= {"rejected": f"no {thing} " * (1 + number % 3)} if number in contrasts else {}
        source = PREFERRED if number in contrasts else "toy"
        rows.append(Sample(f"{number}", f"draw {thing}", source=source, meta=meta))
    for side in ("train", "validation"):
        sample.write(folder / TEXT_SPLIT / f"{side}.parquet", rows)
    seal(folder / TEXT_SPLIT, line="text", kind="data", parents={}, parameters={}, metrics={})


def write_image_inputs(folder: Path, contrasts: Collection[int]) -> None:
    rows = []
    for number, caption in enumerate(CAPTIONS):
        pixels = np.full((8, 8, 3), 255, dtype=np.uint8)
        pixels[1:-1, 1:-1] = (31 * number, 255 - 31 * number, 0)
        rows.append(Sample(f"{number}", f"{caption}: square", picture.encode_png(pixels), meta={"name": caption}))
    for side in ("train", "validation"):
        sample.write(folder / image.SPLIT / f"{side}.parquet", rows)
    seal(folder / image.SPLIT, line="image", kind="data", parents={}, parameters={}, metrics={})
    denoisers.save(tiny_denoiser(), folder / image.BASE)
    seal(folder / image.BASE, line="image", kind="base", parents={}, parameters={}, metrics={})
    write_tiny_encoder(folder / ENCODER)


def set_parameters(folder: Path, line: str, **changes: object) -> None:
    """Write the project's own `params.yaml` with the small sizes and `changes` under `train.<line>`."""
    document = read_yaml(ROOT / "params.yaml")
    document["train"][line] |= COMMON | SETTINGS[line] | changes
    write_yaml(folder / "params.yaml", document)


def train(folder: Path, line: str, module: str = "", **changes: object) -> subprocess.CompletedProcess[str]:
    """Set the parameters and run the line's training stage (or `module LINE`) in `folder`, as a user does."""
    set_parameters(folder, line, **changes)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *([module, line] if module else [f"components.training.{line}"])]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)


def train_here(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the training stage in `folder` in this process, with the parameters that were set."""
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        config.load.cache_clear()  # it remembers by relative path
        {"text": text.main, "image": image.main}[line]()
        config.load.cache_clear()


def losses(folder: Path, line: str) -> list[float]:
    with (folder / "metrics" / line / "train.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]
