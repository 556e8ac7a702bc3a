"""The planner beside what training steps really take: `make bench NAME=models`.

Models are random and made from their configurations; steps are the text line's, in the order in which Lightning takes
them. Each run is a process of its own. Three measures: the bytes that autograd has saved after the forward pass; the
most bytes that PyTorch had in use at once, by its profiler; and the process's resident memory at its highest, above
that before the model was made: once with freed blocks given back to the system at once, and once as glibc has it.
Writes `metrics/planner.json`.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from components.artifact import canonical, write_text
from components.models.language import Batch, adapted, add_adapter, completion_losses
from components.planner import machine, memory, shape, speed
from components.planner.memory import Training
from components.planner.shape import Header, Shape
from components.stage import run

METRICS = Path("metrics/planner.json")
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # every larger block is mapped by itself, and unmapped when it is freed
STEPS = 1

# Vocabulary, width, MLP, layers, heads, heads of keys and values; each head is 64 wide.
MODELS = {
    "llama 8 M": ("llama", 8192, 256, 688, 8, 4, 2),
    "qwen3 28 M": ("qwen3", 24000, 448, 1216, 8, 8, 2),
    "llama 57 M": ("llama", 32000, 640, 1728, 8, 10, 5),
    "qwen3 107 M": ("qwen3", 50000, 768, 2304, 10, 12, 4),
}
RUNS: list[tuple[str, Training]] = [
    ("qwen3 28 M", Training("lora", 8, "bf16", 8, 128)),
    ("qwen3 28 M", Training("full", 8, "fp32", 4, 128, answered=0.5)),
    ("qwen3 28 M", Training("full", 8, "bf16", 1, 64)),
    ("llama 57 M", Training("lora", 8, "bf16", 4, 256, answered=0.25)),
    ("llama 57 M", Training("full", 8, "bf16", 4, 128, checkpointing=True)),
    ("qwen3 107 M", Training("lora", 8, "bf16", 4, 128)),
    ("qwen3 107 M", Training("full", 8, "fp32", 1, 128)),
    ("qwen3 107 M", Training("lora", 8, "fp32", 4, 256, answered=0.5, checkpointing=True)),
]


class Steps(NamedTuple):
    """A model with what a step does to it; `forward` is the first part of `step`."""

    model: torch.nn.Module
    trained: list[torch.nn.Parameter]
    forward: Callable[[], torch.Tensor]
    step: Callable[[], None]


def build(model: str, training: Training) -> tuple[Steps, Shape]:
    """The model as `components.training.text` makes it, and its shape by the planner."""
    family, vocabulary, hidden, inner, layers, heads, kv_heads = MODELS[model]
    config = AutoConfig.for_model(
        family,
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=64,
        tie_word_embeddings=True,
    )
    low = training.trained == "lora" and training.precision == "bf16"
    base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if low else torch.float32)
    sizes = shape.read(config.to_dict(), {name: Header("", tuple(p.shape)) for name, p in base.named_parameters()})
    return steps(base, training, vocabulary), sizes


def steps(base: Any, training: Training, vocabulary: int) -> Steps:
    """In Lightning's order: gradients of the step before are there until the loss is computed."""
    model = base.train()
    if training.trained == "lora":
        model = add_adapter(base, rank=training.rank, alpha=16, dropout=0.0).train()
    if training.checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)

    def forward() -> torch.Tensor:
        bf16 = training.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
            summed_B, tokens_B = completion_losses(
                adapted(model) if training.trained == "lora" else model, batch(training, vocabulary)
            )
            return summed_B.sum() / tokens_B.sum()

    def step() -> None:
        loss = forward()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return Steps(model, trained, forward, step)


def batch(training: Training, vocabulary: int) -> Batch:
    ids_BL = torch.randint(0, vocabulary, (training.batch, training.length))
    mask_BL, labels_BL = torch.ones_like(ids_BL), ids_BL.clone()
    labels_BL[:, : round((1 - training.answered) * training.length)] = -100
    if training.padded:
        mask_BL[0, -2:], labels_BL[0, -2:] = 0, -100
    return Batch(ids_BL, mask_BL, labels_BL)


def resident(name: str) -> int:
    """Bytes, `VmRSS` now or `VmHWM` at the most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def one(number: int) -> dict[str, Any]:
    """Everything that is measured of a run, in bytes: here as glibc has it, the rest in a process that gives back."""
    model, training = RUNS[number]
    warm, _ = build("llama 8 M", replace(training, batch=1, length=8))
    warm.step()
    del warm
    taken, made, sizes, seconds = highest(model, training)
    if GIVE_BACK.items() <= os.environ.items():
        return {
            "shape": asdict(sizes),
            "resident": taken,
            "seconds": seconds,
            "reached": reached(sizes, training, seconds),
            "in_use": in_use(made),
            "saved": saved(made),
        }
    del made
    gc.collect()
    return child(number, GIVE_BACK) | {"resident_by_default": taken}


def child(number: int, environment: dict[str, str]) -> dict[str, Any]:
    """What a process of its own says of a run."""
    call = [sys.executable, "-m", "tests.bench.planner", "--number", str(number)]
    done = subprocess.run(call, capture_output=True, text=True, check=True, env=os.environ | environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def highest(model: str, training: Training) -> tuple[int, Steps, Shape, float]:
    """Resident memory at its highest above that before the model was made, the model, and a step's seconds."""
    gc.collect()
    before = resident("VmRSS")
    made, sizes = build(model, training)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
    made.step()
    start = time.perf_counter()
    for _ in range(STEPS):
        made.step()
    return resident("VmHWM") - before, made, sizes, (time.perf_counter() - start) / STEPS


def reached(sizes: Shape, training: Training, seconds: float) -> float:
    """The share of the probe's throughput that a step came to."""
    return speed.step_flops(sizes, training) / seconds / machine.probe(training.precision).flops[training.precision]


def in_use(made: Steps) -> int:
    """The most that PyTorch had in use at once in two steps."""
    kept = sum(p.nbytes for p in made.model.parameters()) + sum(2 * p.nbytes for p in made.trained)
    for parameter in made.trained:  # else their end would not be seen, as their beginning was not
        parameter.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        made.step()
        made.step()
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for _, size in sorted((event.start_ns(), event.nbytes()) for event in events):
        now += size
        most = max(most, now)
    return kept + most


def saved(made: Steps) -> int:
    """What autograd has saved when the loss is known, beside the model's own weights."""
    own = {p.untyped_storage().data_ptr() for p in made.model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = made.forward()
    size = sum(storage.nbytes() for storage in kept.values())
    del loss
    return size


def measured(number: int) -> dict[str, Any]:
    """A run's row: what it took, and what the planner says."""
    model, training = RUNS[number]
    row = {"model": model, "run": asdict(training), **child(number, {})}
    return row | {"planned": memory.training(Shape(**row["shape"]), training).peak}


def main(
    number: Annotated[int, typer.Option(hidden=True)] = -1,
    only: Annotated[str, typer.Option(help="such as 0,3; the rows of the other runs stay as they are")] = "",
) -> None:
    """Measure every run and write the table."""
    if number >= 0:
        print(json.dumps(one(number)))
        return
    rows: list[dict[str, Any]] = json.loads(METRICS.read_bytes())["runs"] if only else [{} for _ in RUNS]
    for index, (model, training) in enumerate(RUNS):
        if only and str(index) not in only.split(","):
            continue
        row = rows[index] = measured(index)
        parts = (f"{name} {row[name] / 1e6:,.0f}" for name in ("in_use", "resident", "resident_by_default", "planned"))
        what = f"{model}, {training.trained} {training.precision} {training.batch} × {training.length}"
        print(f"{what}: {', '.join(parts)} MB; {row['reached']:.0%} of the probe", flush=True)
    write_text(METRICS, canonical({"runs": rows}))


if __name__ == "__main__":
    run(main)
