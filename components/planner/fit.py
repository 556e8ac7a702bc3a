"""Whether a run fits into a memory, said with the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace

from components.planner.memory import Memory, Training, training
from components.planner.shape import Shape
from components.stage import StageError

GB = 1e9


def arithmetic(memory: Memory) -> str:
    """The parts of a training's peak, in words."""
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "activations": memory.activations,
        "logits": memory.logits,
    }
    return ", ".join(f"{name} {value / GB:.2f}" for name, value in parts.items())


def refuse_unless_fits(shape: Shape, run: Training, available: float) -> Memory:
    """What the run takes; raises `StageError` where that is more than `available` bytes on each device."""
    memory = training(shape, run)
    if memory.peak > available:
        raise StageError(
            f"training needs {memory.peak / GB:.2f} GB on each device and {available / GB:.2f} GB are free "
            f"({arithmetic(memory)} GB, not all of it at once; {shape.parameters / 1e6:,.0f} M parameters, "
            f"{run.batch} × {run.length} tokens): {remedy(shape, run, available)}"
        )
    return memory


def remedy(shape: Shape, run: Training, available: float) -> str:
    """The least change that fits, or that none does."""
    for change in changes(run):
        if training(shape, change.run).peak <= available:
            return change.words
    return "take a smaller model or a larger machine"


@dataclass(frozen=True)
class Change:
    run: Training
    words: str


def changes(run: Training) -> list[Change]:
    """Runs that take less, the least change first."""
    found, smaller = [], run
    while smaller.batch >= 2 * smaller.devices:
        smaller = replace(smaller, batch=smaller.batch // 2)
        found.append(Change(smaller, f"set batch_size to {smaller.batch}"))
    while smaller.length >= 128:
        smaller = replace(smaller, length=smaller.length // 2)
        found.append(Change(smaller, f"set batch_size to {smaller.batch} and max_length to {smaller.length}"))
    if run.trained == "full":
        found.append(Change(replace(run, trained="lora"), "train an adapter and not every weight"))
    return found
