"""A line small enough to train in milliseconds: fit y = x @ w with dropout, so that random numbers matter."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from components.config import TrainBase
from components.training import trainer

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


class Tiny(pl.LightningModule):
    """Dies in the given step, as a killed process does, with nothing cleaned up after the last checkpoint."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
        self.dies_at = dies_at

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if self.dies_at == self.trainer.global_step:
            raise RuntimeError("killed")
        return (self.network(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def fit(module: Tiny, settings: TrainBase, state_dir: Path, ema_decay: float | None = 0.9) -> trainer.Fitted:
    x, y = samples()
    return trainer.fit(
        module, COUNT, lambda i: (x[i], y[i]), settings, state_dir=state_dir, key="key", ema_decay=ema_decay
    )


def main(strategy: str, folder: str, dies_at: str = "") -> None:
    """Train as two processes of `strategy`, checkpointing every third step, and write losses and weights."""
    settings = config(strategy=strategy, devices=2, max_steps=6, checkpoint_every=3)
    fitted = fit(Tiny(int(dies_at) if dies_at else None), settings, Path(folder) / "state")
    if trainer.is_writer():
        trainer.write_losses(Path(folder) / "losses.csv", fitted.losses)
        torch.save(fitted.weights, Path(folder) / "weights.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
