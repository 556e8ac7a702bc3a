"""Two real processes on CPU: DDP and DeepSpeed's ZeRO-2 and ZeRO-3 take the same path."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from components.training import strategy
from tests.conftest import ROOT

STRATEGIES = ("ddp", "deepspeed_stage_2", "deepspeed_stage_3")


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.components.training.tiny", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250)


def train(name: str, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """A whole run of DDP; the sharded ones die after their checkpoint of step 3 and go on from it."""
    if name != "ddp":
        assert "killed" in launch(name, str(folder), "4").stderr
        assert not (folder / "losses.csv").exists()
    done = launch(name, str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    with (folder / "losses.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    return losses, torch.load(folder / "weights.pt", weights_only=True)


def test_ddp_and_resumed_deepspeed_stages_train_alike(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in STRATEGIES]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor() as pool:
        (ddp, ddp_weights), *sharded = pool.map(train, STRATEGIES, folders)
    assert len(ddp) == 6 and ddp[-1] < ddp[0]
    for losses, weights in sharded:
        assert losses == pytest.approx(ddp, abs=1e-5)
        assert weights.keys() == ddp_weights.keys()
        for name, value in ddp_weights.items():
            assert torch.allclose(weights[name], value, atol=1e-5), name


def test_one_device_leaves_the_choice_to_lightning_and_parameters_as_they_are() -> None:
    assert strategy.build("auto", 4) == "auto"
    assert isinstance(strategy.build("ddp", 4), DDPStrategy)
    parameter = torch.nn.Parameter(torch.ones(2))
    with strategy.gathered([parameter]):
        assert parameter.tolist() == [1, 1]
