"""The training loop both lines share: Lightning with exact resumption.

All that varies from step to step – the samples of a batch, the learning rate, the random numbers – is a function of the
seed, the step and the rank alone, and but for a network's dropout not of the rank: several processes take the path of
one. A checkpoint therefore holds weights, optimizer, averages, losses and the step, and a killed run that goes on from
it takes bitwise the path of one that was never killed. Knows nothing of either line's model or data.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset

from components.artifact import canonical, write_csv, write_text
from components.config import TrainBase
from components.stage import StageError
from components.training import strategy

WARM_UP = 0.02  # share of the steps over which the learning rate rises, while Adam's second moments settle
PROGRESS_SECONDS = 10.0
LOOKS = 12  # at the held-out loss in a training
LATEST = "latest.txt"
STATE_LAYOUT = 3  # of checkpoints; a run does not go on from one of another layout

BatchOf = Callable[[list[int], list[int]], Any]
Weights = dict[str, Tensor]


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

    def summed(self, loss_of: Callable[[Any], Tensor], parts: Sequence[Any]) -> Tensor:
        """The sum of the losses of the `parts` of a step, of which one at a time is in memory.

        Its gradients are there when the next part begins. DeepSpeed, which has weights and gradients in pieces, keeps
        nothing of a part and computes it again for them.
        """
        if self.config.strategy.startswith("deepspeed"):
            return torch.stack([checkpoint(loss_of, part, use_reentrant=False) for part in parts]).sum()
        trained = [p for p in self.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.grad = None  # the last step's would be there beside these
        return cast(Tensor, _InParts.apply(loss_of, parts, trained, *trained))

    def training_step(self, batch: Any, index: int) -> Tensor:
        # Weights stay float32 under every strategy. DeepSpeed's own bf16 would round them, and its engine ends an
        # autocast that began outside of it, as Lightning's would.
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            return self.loss(batch)


class _InParts(torch.autograd.Function):
    """Takes the gradients of each part while the loss is computed, and gives their sum where others compute them."""

    @staticmethod
    def forward(
        ctx: Any, loss_of: Callable[[Any], Tensor], parts: Sequence[Any], trained: list[Tensor], *_: Tensor
    ) -> Tensor:
        losses, sums = [], cast(list[Tensor | None], [None] * len(trained))
        for part in parts:
            with torch.enable_grad():
                loss = loss_of(part)
            with torch.autocast(loss.device.type, enabled=False):  # where a whole step goes backward, there is none
                gradients = torch.autograd.grad(loss, trained, allow_unused=True)
            for place, found in enumerate(gradients):
                if found is not None:
                    known = sums[place]  # its memory is nobody else's, that of `found` may be
                    sums[place] = found.clone() if known is None else known.add_(found)
            losses.append(loss.detach())
            gradients = found = loss = None  # or the next part's would be there beside these and the sums
        ctx.gradients = sums
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, None, *(None if one is None else one.mul_(outer[0]) for one in gradients)


@dataclass(frozen=True)
class Fitted:
    """`losses` as (step from 1, mean over ranks); `weights` are the trainable parameters by name, whole, on the CPU.

    They are those after `kept` steps.
    """

    losses: list[tuple[int, float]]
    weights: Weights
    kept: int

    def load_into(self, network: nn.Module, attribute: str) -> None:
        """Give a network like the module's `attribute` its weights: ZeRO-3 leaves the trained one in pieces.

        Raises `StageError` where they are not exactly what is trainable in it.
        """
        weights = {name.removeprefix(f"{attribute}."): value for name, value in self.weights.items()}
        if missed := weights.keys() ^ {name for name, p in network.named_parameters() if p.requires_grad}:
            raise StageError(f"training returned other weights than it was to train: {sorted(missed)}")
        network.load_state_dict(weights, strict=False)


def fit(
    module: TrainingModule,
    count: int,
    batch_of: BatchOf,
    config: TrainBase,
    *,
    state_dir: Path,
    key: str,
    ema_decay: float | None = None,
    order: Callable[[int], list[int]] | None = None,
    held_out: Callable[[Weights], float] | None = None,
) -> Fitted:
    """Train `module` for `config.max_steps` and return its losses and weights (their averages, given `ema_decay`).

    `batch_of(indices, step)` makes, without random numbers, a batch of the samples with these indices out of `count`:
    one rank's share of those of the step, as many on each rank. `config.batch_size` is the batch over all devices.
    `order(step)` gives a step's indices, as many at each; without it, each sample is seen once per epoch.
    Given `held_out`, which is the loss of averaged weights on unseen samples, the smallest of `LOOKS` of them is kept.
    State is kept under `state_dir/key`; call `discard` once the result is safely written. Every rank returns; only rank
    zero should write files. Raises `StageError` where training cannot start or diverges.
    """
    if config.batch_size % config.devices:
        raise StageError(f"batch_size {config.batch_size} is not a multiple of devices {config.devices}")
    run = _Run(config, state_dir / key, type(module).__name__, ema_decay, held_out)
    trainer = _lightning(config, run)
    order = order or (lambda step: batch_indices(config.seed, step, count, config.batch_size))
    loader = DataLoader(_Steps(trainer, order, batch_of, config), batch_size=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        trainer.fit(module, loader, ckpt_path=run.latest(), weights_only=True)
    if trainer.global_step < config.max_steps:
        raise StageError(f"training stopped at step {trainer.global_step} of {config.max_steps}; run it again to go on")
    _, kept, weights = run.best or (0.0, config.max_steps, run.weights)
    module.trainer = None
    del trainer, loader
    gc.collect()  # all that Lightning and the optimiser hold: callers read the network anew
    return Fitted(list(enumerate(run.losses, start=1)), weights, kept)


def _lightning(config: TrainBase, run: _Run) -> pl.Trainer:
    """Lightning's loop over the steps; `run` says what happens around each."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return pl.Trainer(
        max_steps=config.max_steps,
        max_epochs=-1,
        accelerator="auto",
        devices=config.devices,
        strategy=strategy.build(config.strategy, config.batch_size // config.devices),
        plugins=[] if config.strategy.startswith("deepspeed") else [_Checkpoints()],  # DeepSpeed writes its own
        precision="32-true",  # of the weights; of the step see `TrainingModule`
        gradient_clip_val=1.0,
        callbacks=[run],
        logger=False,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class _Checkpoints(TorchCheckpointIO):
    """Writes a checkpoint part by part. Lightning's own has all of it in memory first: thrice the trained weights.

    One that is cut off does no harm: `latest.txt` names it only when it is whole.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, path)


class _Steps(IterableDataset[Any]):
    """This rank's share of each step's batch, from the trainer's current step on."""

    def __init__(
        self, trainer: pl.Trainer, order: Callable[[int], list[int]], batch_of: BatchOf, config: TrainBase
    ) -> None:
        self.trainer, self.order, self.batch_of, self.config = trainer, order, batch_of, config

    def __iter__(self) -> Iterator[Any]:
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        for step in range(self.trainer.global_step, self.config.max_steps):
            indices = self.order(step)
            yield self.batch_of(indices[rank::ranks], indices)


class _Run(pl.Callback):
    """A run from top to bottom: load, then step after step (begin, [train], record, average, save), then finish.

    Lightning calls these methods in this order and takes the step itself: `TrainingModule.training_step`, the backward
    pass, clipping and the optimizer. `weights` are the trainable parameters, whole on every rank.
    """

    def __init__(
        self,
        config: TrainBase,
        folder: Path,
        name: str,
        ema_decay: float | None,
        held_out: Callable[[Weights], float] | None,
    ) -> None:
        self.config, self.folder, self.name, self.ema_decay = config, folder, name, ema_decay
        self.held_out = held_out
        self.losses: list[float] = []
        self.weights: Weights = {}
        self.best: tuple[float, int, Weights] | None = None  # held-out loss, step, weights on the CPU
        self._started = (0, 0.0)
        self._printed = 0.0

    def latest(self) -> Path | None:
        """The last complete checkpoint, from which Lightning loads module, optimizer, step and this object's state."""
        try:
            return self.folder / (self.folder / LATEST).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.weights, self.best = list(state_dict["losses"]), state_dict["weights"], state_dict["best"]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._started = (trainer.global_step, time.monotonic())
        self.weights = {name: value.to(module.device) for name, value in self.weights.items()}
        if self.ema_decay is not None and not self.weights:
            self._read_weights(module, 0.0)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        """Begin: the step's number decides its random numbers and its learning rate."""
        step = trainer.global_step
        torch.manual_seed(step_seed(self.config.seed, step, trainer.global_rank))
        rate = learning_rate(self.config.rate, step, self.config.max_steps)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Record, average, save; the trainer already counts the step that has just been taken."""
        step = trainer.global_step
        self._record(trainer, step, outputs["loss"])
        if self.ema_decay is not None:
            # A rising decay forgets the untrained weights of the first steps (as in TensorFlow's EMA).
            self._read_weights(module, min(self.ema_decay, (1 + step) / (10 + step)))
        if self.held_out and (step % max(1, self.config.max_steps // LOOKS) == 0 or step == self.config.max_steps):
            self._look(step, self.held_out)
        if step % self.config.checkpoint_every == 0 or step == self.config.max_steps:
            self._save(trainer, f"step-{step:08d}.ckpt")

    def _record(self, trainer: pl.Trainer, step: int, own_loss: Tensor) -> None:
        """Keep the mean loss over ranks, and print progress now and then."""
        loss = float(trainer.strategy.reduce(own_loss.detach().float(), reduce_op="mean"))
        if loss != loss:
            raise StageError(f"the loss is not a number at step {step}; lower the learning rate")
        self.losses.append(loss)
        now = time.monotonic()
        if trainer.is_global_zero and (now - self._printed >= PROGRESS_SECONDS or step == self.config.max_steps):
            self._printed = now
            self._print_progress(step, now)

    def _print_progress(self, step: int, now: float) -> None:
        first, since = self._started
        left = (now - since) / (step - first) * (self.config.max_steps - step)
        recent = self.losses[-50:]
        loss = sum(recent) / len(recent)
        steps = f"{self.name}: step {step}/{self.config.max_steps}"
        print(f"{steps}, loss {loss:.4f}, {now - since:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)

    @torch.no_grad()
    def _read_weights(self, module: pl.LightningModule, decay: float) -> None:
        """Take the trainable parameters into `weights`: as they are, or with `decay` of what is there already."""
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        with strategy.gathered(trained.values()):
            values = {name: p.detach().float() for name, p in trained.items()}
            if self.weights:
                averaged = [self.weights[name] for name in values]
                get_ema_multi_avg_fn(decay)(averaged, list(values.values()), 0)
            else:
                self.weights = {name: value.clone() for name, value in values.items()}

    def _look(self, step: int, held_out: Callable[[Weights], float]) -> None:
        """Keep the averaged weights where their held-out loss is the smallest so far."""
        weights = {name: value.to("cpu", copy=True) for name, value in self.weights.items()}
        loss = held_out(weights)
        if self.best is None or loss < self.best[0]:
            self.best = (loss, step, weights)

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        """Save the whole state; `latest.txt` names the last complete one, the others are removed."""
        trainer.save_checkpoint(self.folder / name)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            write_text(self.folder / LATEST, name)
            for old in self.folder.glob("step-*.ckpt"):
                if old.name != name:
                    shutil.rmtree(old) if old.is_dir() else old.unlink()

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "weights": self.weights, "best": self.best}

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Finish: without averages, the weights are those of the last step. Gradients make room for them."""
        module.zero_grad()
        if self.ema_decay is None:
            self._read_weights(module, 0.0)
        self.weights = {name: value.cpu() for name, value in self.weights.items()}


def learning_rate(base: float, step: int, max_steps: int) -> float:
    """Linear rise over the first steps, then linear fall to 0 at `max_steps`."""
    rise = max(1, round(WARM_UP * max_steps))
    return base * min((step + 1) / rise, (max_steps - step) / max(1, max_steps - rise), 1.0)


def batch_indices(seed: int, step: int, count: int, batch_size: int) -> list[int]:
    """Which of `count` samples make up the global batch of a step: every sample once per epoch, in a new order each."""
    indices: list[int] = []
    epoch, position = divmod(step * batch_size, count)
    while len(indices) < batch_size:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(step_seed(seed, epoch, -1)))
        indices += order[position : position + batch_size - len(indices)].tolist()
        epoch, position = epoch + 1, 0
    return indices


def step_seed(seed: int, step: int, rank: int) -> int:
    """An independent seed for each step on each rank."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()[:8], "little") >> 1


def state_key(parameters: object, data_digest: str) -> str:
    """Names a run by what decides its result, so that another run's state is never resumed."""
    return hashlib.sha256(canonical([STATE_LAYOUT, parameters, data_digest]).encode()).hexdigest()[:16]


def is_writer() -> bool:
    """Whether this process is the one that writes results."""
    return rank_zero_only.rank == 0


def discard(state_dir: Path) -> None:
    """Remove the resumable state of runs under `state_dir`, once their result is written or superseded."""
    shutil.rmtree(state_dir, ignore_errors=True)


def write_metrics(folder: Path, metrics: Mapping[str, Any], losses: list[tuple[int, float]]) -> None:
    """`train.json` and `train.csv`: a run in numbers, and its losses for plots."""
    write_losses(folder / "train.csv", losses)
    write_text(folder / "train.json", canonical(metrics))


def write_losses(path: Path, losses: list[tuple[int, float]]) -> None:
    """A CSV of `step,loss` for plots."""
    write_csv(path, ("step", "loss"), [{"step": step, "loss": f"{loss:.6f}"} for step, loss in losses])
