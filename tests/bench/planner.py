"""The planner beside what training really takes: `make bench NAME=models`.

Models are random and made from their configurations; each run is a process of its own, and trains as the stage does,
`components.training.text.train`: from a folder, with checkpoints, to the model that is read anew. Measured are the
process's resident memory at its highest, above that before, once with freed blocks given back to the system at once and
once as glibc has it; the most bytes that PyTorch had in use at once in a step, by its profiler; and those that autograd
has saved after the forward pass. Writes `metrics/planner.json`.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple, cast

import torch
import typer
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from components.artifact import canonical, write_text
from components.config import TrainText
from components.models.language import IGNORED, Chat
from components.planner import machine, memory, shape, speed
from components.planner.memory import Training
from components.planner.shape import Header, Shape
from components.stage import run
from components.training import text
from components.training.lengths import Taught
from components.training.text import Batches, TextModule

METRICS = Path("metrics/planner.json")
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # every larger block is mapped by itself, and unmapped when it is freed
STEPS = 3

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
    ("qwen3 107 M", Training("lora", 8, "fp32", 2, 256, answered=0.5, checkpointing=True)),
    ("llama 57 M", Training("lora", 8, "bf16", 6, 256, answered=0.5, micro=2)),
    ("llama 57 M", Training("full", 8, "bf16", 4, 128, micro=1)),
    ("llama 57 M", Training("lora", 8, "bf16", 4, 256, answered=0.5, packed=True)),
    ("qwen3 28 M", Training("full", 8, "fp32", 4, 128, packed=True)),
]


class Steps(NamedTuple):
    """A model with what a step does to it; `forward` is the first part of `step`."""

    model: torch.nn.Module
    trained: list[torch.nn.Parameter]
    forward: Callable[[], torch.Tensor]
    step: Callable[[], None]


def write_base(model: str, folder: Path) -> Shape:
    """A random model in bf16, as most are brought; its shape by the planner."""
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
    base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    base.save_pretrained(folder)
    return shape.read(config.to_dict(), {name: Header("", tuple(p.shape)) for name, p in base.named_parameters()})


def settings_of(training: Training) -> TrainText:
    """The settings that the planner's run stands for."""
    return TrainText(
        seed=0, max_steps=STEPS, batch_size=len(lengths(training)), precision=training.precision, strategy="auto",
        devices=1, checkpoint_every=2, learning_rate=1e-3, learned_share=0, preference_weight=0, system_prompt="",
        max_length=None, adapter=training.trained, lora_rank=training.rank, lora_alpha=16, lora_dropout=0,
        micro_batch=training.micro, gradient_checkpointing=training.checkpointing, packing=training.packed,
    )  # fmt: skip


def lengths(training: Training) -> list[int]:
    """Tokens of each sample of a step. Packed, two of half the length fill a row."""
    if training.packed:
        return [training.length] + [training.length // 2] * 2 * (training.batch - 1)
    return [training.length - 2 * training.padded] + [training.length] * (training.batch - 1)


def samples(training: Training, vocabulary: int) -> list[Taught]:
    found = []
    for length in lengths(training):
        ids = torch.randint(0, vocabulary, (length,)).tolist()
        silent = round((1 - training.answered) * length)
        found.append(Taught((ids, [IGNORED] * silent + ids[silent:]), None, False))
    return found


def steps(base: Path, training: Training, vocabulary: int) -> Steps:
    """As Lightning takes them: gradients of the step before are there until the loss is computed."""
    settings = settings_of(training)
    module = TextModule(text.untrained(base, settings), settings)
    optimizer, trained = module.configure_optimizers(), [p for p in module.parameters() if p.requires_grad]
    indices = list(range(settings.batch_size))
    batch = Batches(samples(training, vocabulary), 0, settings)(indices, indices)

    def forward() -> torch.Tensor:
        return module.training_step(batch, 0)

    def step() -> None:
        loss = forward()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return Steps(module.model, trained, forward, step)


def resident(name: str) -> int:
    """Bytes, `VmRSS` now or `VmHWM` at the most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def one(number: int) -> dict[str, Any]:
    """Everything that is measured of a run in this process, in bytes and seconds."""
    model, training = RUNS[number]
    with tempfile.TemporaryDirectory() as folder:
        write_base("llama 8 M", Path(folder) / "warm")
        trained(Path(folder) / "warm", replace(training, batch=1, length=8), 8192)
        sizes = write_base(model, Path(folder) / "base")
        gc.collect()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
        trained(Path(folder) / "base", training, sizes.vocabulary)
        taken = resident("VmHWM") - before
        gc.collect()
        made = steps(Path(folder) / "base", training, sizes.vocabulary)
    seconds = fastest(made)
    if not GIVE_BACK.items() <= os.environ.items():
        return {"resident_by_default": taken, "seconds_by_default": seconds}
    row = {"shape": asdict(sizes), "resident": taken, "seconds": seconds, "reached": reached(sizes, training, seconds)}
    return row | {"in_use": in_use(made), "saved": saved(made)}


def fastest(made: Steps) -> float:
    """Seconds of the faster of two steps after the first."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        made.step()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def trained(base: Path, training: Training, vocabulary: int) -> None:
    """As the stage trains."""
    chat = cast(Chat, SimpleNamespace(pad=0))
    taught, settings = samples(training, vocabulary), settings_of(training)
    text.train(base, chat, taught, settings, state_dir=base.with_name("state"), key=base.name)


def child(number: int, environment: dict[str, str]) -> dict[str, Any]:
    """What a process of its own says of a run."""
    call = [sys.executable, "-m", "tests.bench.planner", "--number", str(number)]
    done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


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
    row = {"model": model, "run": asdict(training), **child(number, GIVE_BACK), **child(number, {})}
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
    rows += [{} for _ in RUNS[len(rows) :]]
    for index, (model, training) in enumerate(RUNS):
        if only and str(index) not in only.split(","):
            continue
        row = rows[index] = measured(index)
        parts = (f"{name} {row[name] / 1e6:,.0f}" for name in ("in_use", "resident", "resident_by_default", "planned"))
        what = f"{model}, {training.trained} {training.precision} {training.batch} × {training.length}"
        print(f"{what}: {', '.join(parts)} MB; {row['reached']:.0%} of the probe", flush=True)
        write_text(METRICS, canonical({"runs": [row for row in rows if row]}))


if __name__ == "__main__":
    run(main)
