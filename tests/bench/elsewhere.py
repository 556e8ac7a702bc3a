"""Adapters made here in plain diffusers and PEFT, and adapters made there here: `make bench NAME=models`.

On tiny random models of the families. Of text the largest difference of a logit counts, of pictures that of a value in
[0, 255] at the same seed, each beside what the adapter changes. Writes `adapters` of `metrics/models.json`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM

from components.models.language import load_base, load_merged
from components.models.pipelines import FAMILIES, Family, adapted, adapters
from components.stage import run
from tests.bench.records import record
from tests.bench.text_steps import random_batch, train, write_base
from tests.tiny_pipelines import SIZE, WRITERS

TEXT = ("llama", "qwen3")
Row = dict[str, float]


def row(ours: Tensor, theirs: Tensor, untouched: Tensor) -> Row:
    return {"differs": float((ours - theirs).abs().max()), "adapter": float((ours - untouched).abs().max())}


def text(name: str, folder: Path) -> dict[str, Row]:
    base, ours, theirs = folder / "base", folder / "ours", folder / "theirs"
    write_base(name, base)
    batch = random_batch()

    def plain() -> Any:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()

    @torch.inference_mode()
    def logits(model: Any) -> Tensor:
        found: Tensor = model(input_ids=batch.ids_BL, attention_mask=batch.mask_BL).logits
        return found

    train(base, ours, batch)
    torch.manual_seed(1)
    made = get_peft_model(plain(), LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"]))
    for parameter in (p for name, p in made.named_parameters() if "lora_B" in name):
        torch.nn.init.normal_(parameter, std=0.1)
    made.save_pretrained(theirs)
    untouched = logits(load_base(base, torch.float32))
    return {
        "made here": row(
            logits(load_merged(base, ours, torch.float32)), logits(PeftModel.from_pretrained(plain(), ours)), untouched
        ),
        "made there": row(logits(load_merged(base, theirs, torch.float32)), logits(made.eval()), untouched),
    }


def painted(pipeline: diffusers.DiffusionPipeline) -> Tensor:
    family = FAMILIES[type(pipeline).__name__]
    states, empty = family.encode(pipeline, ["a red flat"]), family.unconditional(pipeline)
    return family.paint(pipeline, states, empty, size=SIZE, steps=4, guidance=3.0, seeds=[3]).add(1).mul(127.5)


def picture(name: str, folder: Path) -> dict[str, Row]:
    base, ours, theirs = WRITERS[name](folder / "base"), folder / "ours", folder / "theirs"
    family = next(family for family in FAMILIES.values() if family.name == name)

    def plain() -> diffusers.DiffusionPipeline:
        return diffusers.DiffusionPipeline.from_pretrained(base, use_safetensors=True)

    torch.manual_seed(1)
    network = adapters.add(family.read_network(base), family, rank=2, alpha=4)
    for parameter in (p for key, p in network.named_parameters() if "lora_B" in key):
        torch.nn.init.normal_(parameter, std=0.3)
    adapters.save(network, family, ours)
    untouched, loaded = painted(plain()), plain()
    loaded.load_lora_weights(str(ours), weight_name=adapters.WEIGHTS)
    made = _made_there(plain(), family, theirs)
    return {
        "made here": row(painted(adapted(base, ours)), painted(loaded), untouched),
        "made there": row(painted(adapted(base, theirs)), painted(made), untouched),
    }


def _made_there(pipeline: diffusers.DiffusionPipeline, family: Family, folder: Path) -> diffusers.DiffusionPipeline:
    network = family.network(pipeline)
    targets = ["to_q", "to_v"]
    network.add_adapter(LoraConfig(r=2, lora_alpha=6, init_lora_weights=False, target_modules=targets))
    layers = {f"{family.network_name}_lora_layers": get_peft_model_state_dict(network)}
    metadata = {f"{family.network_name}_lora_adapter_metadata": network.peft_config["default"].to_dict()}
    type(pipeline).save_lora_weights(folder, **layers, **metadata)
    return pipeline


def main() -> None:
    """Try both ways with every family."""
    lines: list[tuple[str, Callable[[str, Path], dict[str, Row]]]] = [
        *((name, text) for name in TEXT),
        *((name, picture) for name in WRITERS),
    ]
    rows: dict[str, dict[str, Row]] = {}
    for name, tried in lines:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = tried(name, Path(folder))
        print(f"adapters, {name}: {rows[name]}", flush=True)
    record("adapters", rows)


if __name__ == "__main__":
    run(main)
