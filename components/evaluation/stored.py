"""What storing a pipeline's weights costs: the trained pipeline itself, with the weights that an export of it holds.

All of them are in float16; of int8, each row of a matrix (or each kernel of a convolution) of the network and the text
encoders on 256 steps between its least and its greatest value then, as `components.evaluation.rounding` has them.
"""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline
from torch import nn

from components.evaluation.rounding import rounded_weights
from components.models.pipelines import Family
from components.models.pipelines.family import halve

MATRICES = (nn.Linear, nn.Embedding, nn.Conv2d)


@torch.no_grad()
def as_stored(pipeline: DiffusionPipeline, family: Family, weight_format: str) -> DiffusionPipeline:
    """`pipeline` itself, whose weights are those of the export from now on."""
    if weight_format != "f32":
        halve(pipeline)
    for name in (family.network_name, *family.encoders) if weight_format == "int8" else ():
        part = getattr(pipeline, name)
        for module in part.modules() if part is not None else ():
            if isinstance(module, MATRICES):
                weight = module.weight
                weight.data = rounded_weights(weight.data.flatten(1), "int8").view_as(weight)
    return pipeline
