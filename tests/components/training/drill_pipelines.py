"""Pipelines on two processes learn what one learns of the same batches, with masks and regularisation pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.artifact import seal, verify
from components.config.document import read_yaml, write_yaml
from components.data import sample
from components.data.sample import Sample
from components.paths import IMAGE_CHECKPOINT, IMAGE_METRICS, IMAGE_SPLIT
from tests.components.training.layouts import losses
from tests.components.training.test_pipeline import SETTINGS, mask, picture, regularise
from tests.conftest import ROOT
from tests.tiny_pipelines import WRITERS

COLOURS = ("red", "blue", "green", "grey", "pink", "brown")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rows = [
        Sample(f"s{number}", f"a {colour} flat", picture(64, 64, colour), mask=mask(8 * number))
        for number, colour in enumerate(COLOURS)
    ]
    for side in ("train", "validation", "test"):
        sample.write(tmp_path / IMAGE_SPLIT / f"{side}.parquet", rows[:2] if side != "train" else rows)
    seal(tmp_path / IMAGE_SPLIT, line="image", kind="split", parents={}, parameters={}, metrics={})
    regularise(tmp_path / "class")
    return tmp_path


def train(project: Path, base: Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    document = read_yaml(ROOT / "params.yaml")
    document["base"]["image"]["model"] = str(base)
    wanted = {"path": str(project / "class"), "share": 0.3, "weight": 0.5}
    settings = {"max_steps": 4, "batch_size": 4, "checkpoint_every": 2, "learning_rate": 0.001}
    document["train"]["image"] |= {**SETTINGS, **settings, "regularisation": wanted, **changes}
    write_yaml(project / "params.yaml", document)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    for module in ("components.models.base_image", "components.training.image"):
        command = [sys.executable, "-m", module]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=250)
    return done


@pytest.mark.parametrize("rank", [2, None])
@pytest.mark.parametrize("name", WRITERS)
def test_two_processes_learn_what_one_does(project: Path, tmp_path: Path, name: str, rank: int | None) -> None:
    base = WRITERS[name](tmp_path / "base")
    found = []
    for strategy, devices in (("auto", 1), ("ddp", 2)):
        done = train(project, base, strategy=strategy, devices=devices, lora_rank=rank)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("the others cached") == 1  # said by the first process alone
        metrics = json.loads((project / IMAGE_METRICS / "train.json").read_text())
        found.append((losses(project, "image"), metrics["validation_loss"]))
        verify(project / IMAGE_CHECKPOINT)
    (one, held_out), (two, own_held_out) = found
    assert two == pytest.approx(one, abs=2e-4) and own_held_out == pytest.approx(held_out, abs=2e-4)
