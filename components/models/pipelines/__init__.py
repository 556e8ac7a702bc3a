"""Families of text-to-image pipelines that are trained and served: one module and one row here for each."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch

from components.models.pipelines import adapters
from components.models.pipelines.family import Family as Family
from components.models.pipelines.family import States as States
from components.models.pipelines.flux import Flux
from components.models.pipelines.sd3 import Sd3
from components.models.pipelines.sdxl import Sdxl

FAMILIES: dict[str, Family] = {family.pipeline: family for family in (Sdxl(), Sd3(), Flux())}


def family_of(folder: Path) -> Family:
    """The family of the pipeline in `folder`, which has been examined before."""
    return FAMILIES[json.loads((folder / "model_index.json").read_bytes())["_class_name"]]


def adapted(folder: Path, checkpoint: Path, dtype: torch.dtype = torch.float32) -> diffusers.DiffusionPipeline:
    """The pipeline in `folder` with what `checkpoint` holds: its adapter added to the weights, or its whole network.

    Raises `StageError` for an adapter of another base.
    """
    family = family_of(folder)
    if (checkpoint / family.network_name).is_dir():
        pipeline = family.read(folder, dtype, without=(family.network_name,))
        pipeline.register_modules(**{family.network_name: family.read_network(checkpoint, dtype)})
        return pipeline
    return adapters.apply(family.read(folder, dtype), family, checkpoint)
