"""What the training loop trains: the loss of this rank's share of a step, in the precision of its settings."""

from __future__ import annotations

import hashlib
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from components.config import TrainBase


def step_seed(seed: int, step: int, rank: int) -> int:
    """An independent seed for each step on each rank."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()[:8], "little") >> 1


class TrainingModule(pl.LightningModule):
    """A line defines `loss` and its optimizer.

    The same code runs on every rank whatever its batch holds: under ZeRO-3 each forward pass is a collective operation,
    and a rank that makes one more than another waits for ever.
    """

    def __init__(self, config: TrainBase) -> None:
        super().__init__()
        self.config = config

    def loss(self, batch: Any) -> Tensor:
        """The loss of this rank's share, weighted so that the mean over ranks is the loss of the step's whole batch."""
        raise NotImplementedError

    @property
    def share(self) -> slice:
        """Which samples of the step are this rank's."""
        return slice(self.trainer.global_rank, None, self.trainer.world_size)

    def generator(self) -> torch.Generator:
        """Random numbers of the step, equal on every rank: draw for all of its samples, then take this rank's share."""
        seed = step_seed(self.config.seed, self.trainer.global_step, 0)
        return torch.Generator(self.device).manual_seed(seed)

    def training_step(self, batch: Any, index: int) -> Tensor:
        # Weights stay float32 under every strategy. DeepSpeed's own bf16 would round them, and its engine ends an
        # autocast that began outside of it, as Lightning's would.
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            return self.loss(batch)
