"""A line small enough to train in milliseconds: fit y = x @ w with dropout, so that random numbers matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from components.config import TrainBase
from components.training import trainer
from components.training.trainer import TrainingModule

COUNT = 10
DEFAULTS = {
    "seed": 3,
    "max_steps": 9,
    "batch_size": 4,
    "learning_rate": 0.05,
    "precision": "fp32",
    "strategy": "auto",
    "devices": 1,
    "checkpoint_every": 4,
}


def config(**changes: object) -> TrainBase:
    return TrainBase.model_validate({**DEFAULTS, **changes})


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(COUNT, 4, generator=generator)
    return x, x @ torch.randn(4, 2, generator=generator)


class Tiny(TrainingModule):
    """Dies in the given step, as a killed process does, with nothing cleaned up after the last checkpoint."""

    def __init__(self, dies_at: int | None = None, precision: str = "fp32") -> None:
        super().__init__(config(precision=precision))
        torch.manual_seed(5)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
        self.dies_at = dies_at

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        if self.dies_at == self.trainer.global_step:
            raise RuntimeError("killed")
        return (self.network(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def fit(
    module: Tiny,
    settings: TrainBase,
    state_dir: Path,
    ema_decay: float | None = 0.9,
    held_out: Callable[[trainer.Weights], float] | None = None,
) -> trainer.Fitted:
    x, y = samples()
    return trainer.fit(
        module,
        COUNT,
        lambda i, step: (x[i], y[i]),
        settings,
        state_dir=state_dir,
        key="key",
        ema_decay=ema_decay,
        held_out=held_out,
    )
