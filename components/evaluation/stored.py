"""What storing a pipeline's weights costs: the trained pipeline itself, with the weights that an export of it holds.

Of float16: every weight. Of int8: each row of a matrix (or each kernel of a convolution) of the network and the text
encoders on 256 steps between its least and its greatest value, as `components.evaluation.rounding` has them, and all
other weights in float16.
"""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from components.evaluation.rounding import rounded_weights
from components.models.pipelines import Family

MATRICES = (nn.Linear, nn.Embedding, nn.Conv2d)


@torch.no_grad()
def as_stored(pipeline: DiffusionPipeline, family: Family, weight_format: str) -> DiffusionPipeline:
    """`pipeline` itself, whose weights are those of the export from now on."""
    if weight_format == "f32":
        return pipeline
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            eight = weight_format == "int8" and name in (family.network_name, *family.encoders)
            for module in part.modules():
                _store(module, eight and isinstance(module, MATRICES))
    return pipeline


def _store(module: nn.Module, eight: bool) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        rows = parameter.data.flatten(1) if parameter.ndim > 1 else parameter.data
        parameter.data = (
            rounded_weights(rows, "int8").view_as(parameter) if eight and name == "weight" else _halved(parameter.data)
        )


def _halved(weights: Tensor) -> Tensor:
    return weights.half().float()
