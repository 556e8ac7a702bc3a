"""Adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) of a pipeline's network, in the file format of diffusers.

Knows nothing of how they are trained. A factor other than 1 (alpha over rank) is multiplied into the weights that are
written: programs that read no metadata, ComfyUI among them, take it for 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import diffusers
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from components.artifact import canonical
from components.models.pipelines.family import Family
from components.stage import StageError

WEIGHTS = "pytorch_lora_weights.safetensors"  # as diffusers names it
KOHYA = "kohya.safetensors"  # the same once more, for programs that read no other names of this family's layers
METADATA = "lora_adapter_metadata"
NAME = "default"


def add(network: nn.Module, family: Family, rank: int, alpha: float) -> nn.Module:
    """Give `network` an adapter, which alone is trainable, in float32, and changes nothing yet."""
    network.requires_grad_(False)
    network.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(family.targets)), NAME)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return network


def save(network: nn.Module, family: Family, folder: Path) -> None:
    """Write the adapter of `network` into `folder`, equal bytes for equal weights."""
    config = network.peft_config[NAME]
    layers = {
        name: (value * (config.lora_alpha / config.r) if ".lora_B." in name else value).detach().cpu().contiguous()
        for name, value in get_peft_model_state_dict(network, adapter_name=NAME).items()
    }
    targets = sorted(config.target_modules)  # a set, in another order in each process
    stated = LoraConfig(r=config.r, lora_alpha=config.r).to_dict() | {"target_modules": targets}
    prefix = family.network_name
    # As `save_lora_weights` of diffusers, but for its second entry of metadata: the two are in no order, and with it
    # equal weights would be other bytes in each process.
    metadata = {METADATA: canonical({f"{prefix}.{name}": value for name, value in stated.items()})}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"{prefix}.{name}": value for name, value in layers.items()}, folder / WEIGHTS, metadata)
    if family.kohya:
        save_file(dict(_in_kohyas_names(layers, family, config.r)), folder / KOHYA)


def _in_kohyas_names(layers: dict[str, Tensor], family: Family, rank: int) -> Iterator[tuple[str, Tensor]]:
    for name, value in layers.items():
        layer, _, kind = name.partition(".lora_")
        named = f"{family.kohya}{layer.replace('.', '_')}"
        yield f"{named}.lora_{'down' if kind.startswith('A') else 'up'}.weight", value
        yield f"{named}.alpha", torch.tensor(float(rank))


def apply(pipeline: diffusers.DiffusionPipeline, family: Family, folder: Path) -> diffusers.DiffusionPipeline:
    """`pipeline` with the adapter of `folder` added to its weights; raises `StageError` where it is another base's."""
    network = family.network(pipeline)
    if faults := _faults(network, family, folder / WEIGHTS):
        raise StageError(f"{folder / WEIGHTS} is no adapter of this base: {faults}")
    network.load_lora_adapter(str(folder), prefix=family.network_name, weight_name=WEIGHTS, local_files_only=True)
    network.fuse_lora()
    network.unload_lora()
    return pipeline


def _faults(network: nn.Module, family: Family, path: Path) -> str:
    """What in the file does not fit the network; empty where all does."""
    if not path.is_file():
        return "there is no such file"
    layers = {name: module for name, module in network.named_modules() if hasattr(module, "weight")}
    ranks: dict[str, list[int]] = {}
    with safe_open(path, "pt") as file:
        stated = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        for key in file.keys():  # noqa: SIM118 - no mapping
            place, _, kind = key.partition(".lora_")
            name = place.removeprefix(f"{family.network_name}.")
            shape = file.get_slice(key).get_shape()
            if name == place or not kind:
                return f"{key} is not of its {family.network_name} in diffusers' format"
            if name not in layers:
                return f"its {family.network_name} has no layer {name}"
            wide, high = layers[name].weight.shape[1], layers[name].weight.shape[0]
            (rank, side), due = (shape[:2], wide) if kind.startswith("A") else (shape[1::-1], high)
            if side != due:
                return f"{key} is for a layer of {side} values, the base's has {due}"
            ranks.setdefault(name, []).append(rank)
    if not ranks:
        return "it is empty"
    expected = stated.get(f"{family.network_name}.r")
    for name, found in ranks.items():
        if len(found) != 2 or found[0] != found[1]:
            return f"{name} has matrices of ranks {found}, where two of one rank belong"
        if expected and not stated.get(f"{family.network_name}.rank_pattern") and found[0] != expected:
            return f"{name} has rank {found[0]}, the file says {expected}"
    return ""
