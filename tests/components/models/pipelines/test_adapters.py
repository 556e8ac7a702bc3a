"""An adapter is a file that other programs read, and one that fits no layer of the base is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from components.models.pipelines import FAMILIES, adapted, adapters
from components.models.pipelines.family import Family
from components.stage import StageError
from tests.tiny_pipelines import WRITERS

NAMES = ["sdxl", "sd3", "flux"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pipelines")
    return {name: WRITERS[name](folder / name) for name in NAMES}


def named(name: str) -> Family:
    return next(family for family in FAMILIES.values() if family.name == name)


def write_adapter(base: Path, family: Family, folder: Path, alpha: float = 4.0) -> Path:
    network = adapters.add(family.read_network(base), family, rank=2, alpha=alpha)
    torch.manual_seed(1)
    for key, parameter in network.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    adapters.save(network, family, folder)
    return folder


def paint(pipeline: diffusers.DiffusionPipeline, family: Family) -> np.ndarray:
    states, empty = family.encode(pipeline, ["a red flat"]), family.unconditional(pipeline)
    return family.paint(pipeline, states, empty, size=64, steps=2, guidance=3.0, seeds=[3]).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_one_made_by_plain_peft_for_the_same_base_paints_the_same_here(
    bases: dict[str, Path], name: str, tmp_path: Path
) -> None:
    family = named(name)
    plain = diffusers.DiffusionPipeline.from_pretrained(bases[name], use_safetensors=True)
    untouched, network = paint(plain, family), family.network(plain)
    network.add_adapter(LoraConfig(r=2, lora_alpha=6, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    layers = {f"{family.network_name}_lora_layers": get_peft_model_state_dict(network)}
    metadata = {f"{family.network_name}_lora_adapter_metadata": network.peft_config["default"].to_dict()}
    type(plain).save_lora_weights(tmp_path, **layers, **metadata)
    theirs, ours = paint(plain, family), paint(adapted(bases[name], tmp_path), family)
    assert np.abs(ours - theirs).max() < np.abs(ours - untouched).max() / 20


def test_the_scale_is_in_the_weights_for_programs_that_read_no_other(bases: dict[str, Path], tmp_path: Path) -> None:
    family = named("sdxl")
    plain, scaled = (
        load_file(write_adapter(bases["sdxl"], family, tmp_path / str(alpha), alpha) / adapters.WEIGHTS)
        for alpha in (2.0, 6.0)
    )
    ups = [key for key in plain if "lora_B" in key]
    assert ups and all(torch.allclose(scaled[key], 3 * plain[key]) for key in ups)


def test_kohyas_names_of_the_same_adapter_are_read_by_diffusers(bases: dict[str, Path], tmp_path: Path) -> None:
    family = named("sdxl")
    folder = write_adapter(bases["sdxl"], family, tmp_path)
    assert all(key.startswith("lora_unet_") for key in load_file(folder / adapters.KOHYA))
    plain = diffusers.DiffusionPipeline.from_pretrained(bases["sdxl"], use_safetensors=True)
    untouched = paint(plain, family)
    plain.load_lora_weights(str(folder), weight_name=adapters.KOHYA)
    ours = paint(adapted(bases["sdxl"], folder), family)
    assert np.abs(ours - paint(plain, family)).max() < np.abs(ours - untouched).max() / 20


def spoiled(folder: Path, change: str) -> None:
    path = folder / adapters.WEIGHTS
    weights = load_file(path)
    first = next(key for key in weights if "lora_A" in key)
    if change == "lost":
        path.unlink()
        return
    if change == "width":
        weights[first] = torch.zeros(2, 7)
    elif change == "rank":
        weights[first] = torch.zeros(3, weights[first].shape[1])
    elif change == "half":
        del weights[first]
    elif change == "layer":
        weights[first.replace("attn", "other")] = weights.pop(first)
    elif change == "format":
        weights = {f"base_model.{key}": value for key, value in weights.items()}
    elif change == "empty":
        weights = {}
    save_file(weights, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("lost", "there is no such file"),
        ("width", "is for a layer of 7 values, the base's has"),
        ("rank", r"matrices of ranks \[3, 2\]"),
        ("half", "where two of one rank belong"),
        ("layer", "its transformer has no layer transformer_blocks.0.other"),
        ("format", "is not of its transformer in diffusers' format"),
        ("empty", "it is empty"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_what_does_not(
    bases: dict[str, Path], tmp_path: Path, change: str, words: str
) -> None:
    spoiled(write_adapter(bases["sd3"], named("sd3"), tmp_path), change)
    with pytest.raises(StageError, match=f"is no adapter of this base: .*{words}"):
        adapted(bases["sd3"], tmp_path)


def test_an_adapter_of_another_family_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    write_adapter(bases["sdxl"], named("sdxl"), tmp_path)
    with pytest.raises(StageError, match="is not of its transformer in diffusers' format"):
        adapted(bases["sd3"], tmp_path)


def test_a_rank_other_than_the_one_that_is_stated_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    write_adapter(bases["sd3"], named("sd3"), tmp_path)
    weights = load_file(tmp_path / adapters.WEIGHTS)
    stated = {"lora_adapter_metadata": json.dumps({"transformer.r": 8, "transformer.lora_alpha": 8})}
    save_file(weights, tmp_path / adapters.WEIGHTS, stated)
    with pytest.raises(StageError, match="has rank 2, the file says 8"):
        adapted(bases["sd3"], tmp_path)
