"""This machine as a device to plan for: its memory, and what its processor does, measured for a second or two."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter

from components.config.base import Precision
from components.host_memory import host_memory
from components.planner.speed import Device

SECONDS = 0.7  # of each probe
SIDE = 1024  # of the matrices: those of a small model
# Of its own probe's throughput a training step here reached this share: `make bench NAME=models`.
REACHED = (0.08, 0.8)
# glibc keeps freed blocks for later: the process had up to so many times the bytes that were in use at once.
KEPT = 2.0


def probe(precision: Precision) -> Device:
    """The processor, by the fastest of several matrix products and of several passes over 256 MB."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side_SS = torch.ones(SIDE, SIDE, dtype=dtype)
    wide = torch.ones(64 * 2**20)

    def fastest(work: Callable[[], object]) -> float:
        best, end = float("inf"), perf_counter() + SECONDS
        while perf_counter() < end:
            start = perf_counter()
            work()
            best = min(best, perf_counter() - start)
        return best

    flops = 2 * SIDE**3 / fastest(lambda: side_SS @ side_SS)
    bandwidth = wide.nbytes / fastest(lambda: wide.sum())
    return Device(
        f"this CPU, {len(os.sched_getaffinity(0))} cores",
        host_memory()[0],
        {precision: flops},
        bandwidth,
        REACHED,
        f"probed now: {flops / 1e9:,.0f} GFLOP/s in {precision}, {bandwidth / 1e9:.0f} GB/s",
    )
