"""SmolLM2 by an adapter and whole, and a Qwen3-shaped model made here, on the same pairs: `make bench NAME=models`.

Each goes through the line's own stages, base to evaluation, as processes in a project of its own in which `params.yaml`
alone is another; the pairs are those of `data/text/split`. The model made here has SmolLM2's tokenizer and random
weights, so that all it can do is learnt from the pairs. Writes `side_by_side` of `metrics/models.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import torch
import typer
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from components.config.document import read_yaml, write_yaml
from components.stage import run
from tests.bench.records import record
from tests.bench.timing import Load
from tests.conftest import ROOT

LINKS = ("components", "scoring", "data/assets", "data/text/split", "data/feedback")
SCORES = ("loss", "exact", "chrf")
WRITERS = ("after", "before", "unigram", "echo", "nearest_answer", "majority_answer")


@dataclass(frozen=True)
class Trained:
    """`changes` of `train.text`; the base is the built-in one, or made here."""

    changes: dict[str, Any]
    made_here: bool = False


def models(steps: int) -> dict[str, Trained]:
    """A step of the small model costs so little that it takes many more."""
    full = {"adapter": "full", "checkpoint_every": 10**6}
    return {
        "SmolLM2, LoRA": Trained({"max_steps": steps}),
        "SmolLM2, every weight": Trained({"max_steps": steps, "learning_rate": 0.0002, **full}),
        "Qwen3-shaped, from random weights": Trained({"max_steps": 12 * steps, "learning_rate": 0.003, **full}, True),
    }


def write_qwen3(folder: Path, tokenizer: Path) -> None:
    """1.5 M parameters in six layers, beside an embedding of 6 M."""
    torch.manual_seed(0)
    words = AutoTokenizer.from_pretrained(tokenizer)
    config = Qwen3Config(
        vocab_size=len(words), hidden_size=128, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)


def write_project(folder: Path, trained: Trained) -> None:
    for name in (*LINKS, *(() if trained.made_here else ("data/base/text",))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    document = read_yaml(ROOT / "params.yaml")
    document["train"]["text"] |= trained.changes
    if trained.made_here:
        write_qwen3(folder / "models/qwen3", ROOT / "data/base/text")
        document["base"]["text"] = {"model": "models/qwen3", "licence": "apache-2.0"}
    write_yaml(folder / "params.yaml", document)


def stage(folder: Path, module: str) -> tuple[float, int]:
    """Seconds that a stage took, and the most resident memory that its process had, in bytes."""
    start = perf_counter()
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", module], cwd=folder, env=variables)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), module)
    return perf_counter() - start, used.ru_maxrss * 1024


def row(folder: Path, trained: Trained) -> dict[str, Any]:
    write_project(folder, trained)
    if trained.made_here:
        stage(folder, "components.models.base_text")
    seconds, memory = stage(folder, "components.training.text")
    stage(folder, "components.evaluation.text")
    stage(folder, "components.export.text")
    found, curve = (json.loads((folder / f"metrics/text/{name}.json").read_bytes()) for name in ("evaluate", "train"))
    scores = {who: {name: value for name, value in found[who].items() if name in SCORES} for who in WRITERS}
    return {
        "steps": curve["steps"],
        "seconds": seconds,
        "memory": memory,
        "trained_parameters": curve["trained_parameters"],
        "checkpoint_bytes": bytes_of(folder / "artifacts/text/checkpoint", "*.safetensors"),
        "export_bytes": bytes_of(folder / "artifacts/text/export", "**/*.bin"),
        "pairs": found["pairs"],
        "samples": found["samples"],
        "scores": scores,
    }


def bytes_of(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


def main(
    steps: Annotated[int, typer.Option(help="of SmolLM2; a whole run of its adapter takes 60")] = 20,
    only: Annotated[str, typer.Option(help="a part of a model's name, to try the bench; writes nothing")] = "",
) -> None:
    """Train and evaluate each model."""
    rows = {}
    with Load() as load:
        for name, trained in models(steps).items():
            if only in name:
                with tempfile.TemporaryDirectory() as folder:
                    rows[name] = row(Path(folder), trained)
                print(f"{name}: {rows[name]}", flush=True)
    if not only:
        record("side_by_side", {"models": rows, "machine": load.machine()})


if __name__ == "__main__":
    run(main)
