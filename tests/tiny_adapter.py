"""A project with a tiny text model and an adapter for a segment of its users, made by the project's own code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from components.artifact import seal
from components.config import TrainText, load
from components.data import sample
from components.data.sample import Sample
from components.learning import data_version
from components.learning.harvest import Harvest, JudgedAnswer
from components.models.language import add_adapter, load_base
from components.paths import SEGMENTS
from components.training import adapter
from tests.components.training.test_text import SETTINGS
from tests.tiny_language import tiny_chat

SEGMENT = {"plan": "paid"}
LEARNED = SEGMENTS / "plan=paid"
THINGS = ("apple", "heart", "rocket", "dog", "boat", "tree")
TRAINING: TrainText = SETTINGS.model_copy(update={"max_steps": 20, "learning_rate": 0.05, "checkpoint_every": 50})


def write_project(root: Path, base: Path, export: Path) -> None:
    """What `dvc repro package@text` leaves of the tiny base, with a checkpoint that changes nothing."""
    shutil.copytree(base, root / "data/base/text")
    checkpoint = root / "artifacts/text/checkpoint"
    add_adapter(load_base(base, torch.float32), rank=2, alpha=2, dropout=0.0).save_pretrained(str(checkpoint))
    tiny_chat(base).format.write(checkpoint)
    made = seal(checkpoint, line="text", kind="checkpoint", parents={}, parameters={}, metrics={})
    package = root / "artifacts/text/package"
    shutil.copytree(export / "openvino", package / "openvino")
    seal(package, line="text", kind="package", parents={"checkpoint": made.digest}, parameters={}, metrics={})
    split = root / "data/text/split"
    rows = [Sample(thing, f"draw {thing}", label=thing, meta={"completion": f"{thing}: flat"}) for thing in THINGS]
    sample.write(split / "train.parquet", rows)
    seal(split, line="text", kind="split", parents={}, parameters={}, metrics={})


def write_likes(root: Path) -> None:
    """The segment's data version: what its users like is a woodcut; so do those held out."""

    def liked(number: int, prompt: str, thing: str) -> JudgedAnswer:
        return JudgedAnswer(
            f"r{number}", float(number), f"u{number}", "text-1", prompt, f"{thing}: woodcut", liked=True
        )

    found = Harvest(
        pairs=[liked(n, f"paint {thing}", thing) for n, thing in enumerate(THINGS)],
        held_out=[liked(100 + n, f"show {thing}", thing) for n, thing in enumerate(THINGS)],
    )
    data_version.write_version(data_version.pairs_of(found, ()), found, load().learning, root / LEARNED)


def write_adapter(root: Path, base: Path, export: Path) -> Path:
    """The folder of the adapter, trained in the project at `root`."""
    write_project(root, base, export)
    write_likes(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        manifest = adapter.make(SEGMENT, LEARNED, TRAINING)
    return root / adapter.ADAPTERS / manifest.digest


def package_of(made: Path) -> Path:
    """The package that an adapter's project holds."""
    return made.parents[1] / "package"
