"""How training is spread over devices: one device, DDP, or DeepSpeed ZeRO-2/3, on GPUs or (gloo) on CPU processes.

Lightning's DeepSpeed strategy refuses CPUs although DeepSpeed itself runs on them; the subclass here lifts that, so
that sharded training is tested for real on any machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from lightning.pytorch.strategies import Strategy as LightningStrategy

from components import config


class CpuDeepSpeedStrategy(DeepSpeedStrategy):
    """DeepSpeed over gloo: the checks for CUDA devices and device indices are left out, ranks name the devices."""

    def setup_environment(self) -> None:
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        import deepspeed

        reset_seed()
        self.set_world_ranks()
        # Its shared-memory collectives are C++ compiled at first use, behind a lock a killed run leaves; gloo serves.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self._init_deepspeed_distributed()

    def _setup_model_and_optimizer(self, model: Any, optimizer: Any, lr_scheduler: Any = None) -> tuple[Any, Any]:
        import deepspeed

        engine, sharded_optimizer, _, _ = deepspeed.initialize(
            args=argparse.Namespace(device_rank=self.local_rank),
            config=self.config,
            model=model,
            model_parameters=[p for p in model.parameters() if p.requires_grad],
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            dist_init_required=False,
        )
        return engine, sharded_optimizer


def build(name: config.Strategy, batch_per_device: int) -> LightningStrategy | str:
    """Lightning's strategy for a name of `train.<line>.strategy`."""
    on_gpu = torch.cuda.is_available()
    if name == "auto":
        return "auto"
    if name == "ddp":
        return DDPStrategy(process_group_backend="nccl" if on_gpu else "gloo")
    # DeepSpeed would read the batch size off a batch sampler, which a stream of whole batches has not.
    stage = int(name[-1])
    if on_gpu:
        return DeepSpeedStrategy(stage=stage, logging_batch_size_per_gpu=batch_per_device)
    return CpuDeepSpeedStrategy(
        stage=stage,
        overlap_comm=False,
        process_group_backend="gloo",
        logging_batch_size_per_gpu=batch_per_device,
    )


def gathered(parameters: Iterable[torch.nn.Parameter]) -> AbstractContextManager[Any]:
    """Inside it, parameters that ZeRO-3 has sharded are whole (for reading) on every rank; every rank must enter."""
    sharded = [p for p in parameters if hasattr(p, "ds_id")]
    if not sharded:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(sharded)
