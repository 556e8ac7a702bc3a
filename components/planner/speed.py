"""How long training and serving take: floating-point operations over what a device does of them.

An estimate, given as a range: what share of its published or probed throughput a device reaches is an assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.planner.memory import Training
from components.planner.shape import Shape

GB = 1e9


@dataclass(frozen=True)
class Device:
    """Bytes of memory, and throughput in FLOP/s by precision and bytes/s of memory; `share` of these that is reached,
    least and most; `source` of the figures.
    """

    name: str
    memory: float
    flops: dict[str, float]
    bandwidth: float
    share: tuple[float, float]
    source: str

    @property
    def precision(self) -> str | None:
        """What it must compute in where it has no bf16."""
        return None if "bf16" in self.flops else "fp32"


SHEET = "published peak; 20 to 50 % of it is assumed"
REACHED = (0.2, 0.5)
# NVIDIA's data sheets of A100 (2021, dense bf16 and plain fp32) and V100 (2020, no bf16), SXM forms.
GPUS = (
    Device("A100 80 GB", 80 * GB, {"bf16": 312e12, "fp32": 19.5e12}, 2.039e12, REACHED, SHEET),
    Device("A100 40 GB", 40 * GB, {"bf16": 312e12, "fp32": 19.5e12}, 1.555e12, REACHED, SHEET),
    Device("V100 32 GB", 32 * GB, {"fp32": 15.7e12}, 0.9e12, REACHED, SHEET),
)


def step_flops(shape: Shape, run: Training) -> float:
    """Of one optimiser step over all devices: forward 2 for each weight and token, backward the same again for what
    flows through, and again for the weights that are trained.
    """
    tokens = run.batch * run.length
    through = 2 * shape.multiplied * tokens + 4 * run.length * shape.queries * shape.layers * tokens
    head = 2 * shape.embedding * tokens * run.answered
    trained = 2 * shape.multiplied * tokens + head if run.trained == "full" else 2 * shape.adapter(run.rank) * tokens
    again = through * run.checkpointing + (through + head) * run.in_parts
    return 2 * (through + head) + 2 * 2 * shape.adapter(run.rank) * tokens * (run.trained == "lora") + trained + again


def training_hours(shape: Shape, run: Training, steps: int, device: Device) -> tuple[float, float]:
    """Least and most, on `run.devices` such devices that lose nothing by talking to each other."""
    seconds = steps * step_flops(shape, run) / (device.flops[run.precision] * run.devices)
    least, most = device.share
    return seconds / most / 3600, seconds / least / 3600


def tokens_per_second(weights: float, device: Device) -> tuple[float, float]:
    """Least and most that one stream writes: each token reads all `weights` bytes once."""
    least, most = device.share
    return least * device.bandwidth / weights, most * device.bandwidth / weights
