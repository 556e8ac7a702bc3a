"""What a precision costs: the trained model itself, made to compute as coarsely as the engine of an export does.

How far an export may be from PyTorch cannot be read off the export, nor off another model. So the trained model is
rounded here, in PyTorch: its weights as an export stores them (int8: each row of a matrix on 256 steps between its
least and its greatest value; int4: each 64 weights of a row on 16), and the inputs of every matrix, 32 of them on one
scale of 255 steps, as OpenVINO's CPU plugin does where a CPU multiplies bytes (`DYNAMIC_QUANTIZATION_GROUP_SIZE`).
The cache of keys and values is left exact. docs/training.md compares the estimate with what exports measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from components.stage import StageError

GRIDS: dict[str, tuple[int, int | None]] = {"int8": (255, None), "int4": (15, 64)}  # steps; weights of one, None: a row
ENDS = "int8"  # of the first and the last matrix, whatever the format
INPUT_STEPS, INPUT_GROUP = 127, 32  # steps from 0 to the greatest input of so many


@contextmanager
def rounded(model: PreTrainedModel, weight_format: str, inputs: bool = True) -> Iterator[PreTrainedModel]:
    """`model` as it computes with the weights of an export, and with rounded `inputs`; it is itself again afterwards.

    It rounds at each use, so that no second copy of its weights is held. Raises `StageError` for a mixture whose
    experts are one block of weights.
    """
    _require_matrices(model)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Embedding | Conv1D)]
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    for layer in layers:
        coarse = _embedding if isinstance(layer, nn.Embedding) else partial(_linear, inputs=inputs)
        layer.__dict__["forward"] = partial(coarse, layer, ENDS if layer in ends else weight_format)
    try:
        yield model
    finally:
        for layer in layers:
            del layer.__dict__["forward"]


def _require_matrices(model: PreTrainedModel) -> None:
    """Refuse what would be left exact here, and so make every export look wrong."""
    whole = (nn.Conv1d, nn.Conv2d)  # an export leaves these as they are
    blocks = (layer for layer in model.modules() if not isinstance(layer, whole))
    found = (type(layer).__name__ for layer in blocks for p in layer.parameters(recurse=False) if p.ndim > 2)
    if name := next(found, None):
        raise StageError(
            f"what rounding costs is unproven for models of the family {model.config.model_type}: their {name} holds "
            "all experts in one block of weights, which is not rounded here, so that no export of them can be checked"
        )


def _linear(layer: nn.Linear | Conv1D, weight_format: str, x: Tensor, *, inputs: bool) -> Tensor:
    x = rounded_inputs(x) if inputs else x
    weight_OI = layer.weight.T if isinstance(layer, Conv1D) else layer.weight  # GPT-2's are stored the other way round
    return functional.linear(x, rounded_weights(weight_OI, weight_format), layer.bias)


def _embedding(layer: nn.Embedding, weight_format: str, ids: Tensor) -> Tensor:
    return rounded_weights(functional.embedding(ids, layer.weight), weight_format)


def rounded_weights(weights: Tensor, weight_format: str) -> Tensor:
    """Each group of the last axis on an even grid from its least to its greatest value, on which 0 lies."""
    steps, size = GRIDS[weight_format]
    size = size if size and weights.shape[-1] % size == 0 else weights.shape[-1]
    groups_GS = weights.reshape(-1, size)
    low_G1, high_G1 = groups_GS.aminmax(dim=1, keepdim=True)
    low_G1, high_G1 = low_G1.clamp(max=0), high_G1.clamp(min=0)
    step_G1 = ((high_G1 - low_G1) / steps).clamp(min=torch.finfo(weights.dtype).tiny)
    zero_G1 = (-low_G1 / step_G1).round()
    grid_GS = (groups_GS / step_G1 + zero_G1).round().clamp(0, steps)
    return ((grid_GS - zero_G1) * step_G1.half()).reshape(weights.shape)  # the files hold steps as float16


def rounded_inputs(inputs: Tensor) -> Tensor:
    """Each group of the last axis in steps of its greatest value; a width that groups do not divide is one group."""
    width = inputs.shape[-1]
    groups_GS = inputs.reshape(-1, INPUT_GROUP if width % INPUT_GROUP == 0 else width)
    step_G1 = (groups_GS.abs().amax(dim=1, keepdim=True) / INPUT_STEPS).clamp(min=torch.finfo(inputs.dtype).tiny)
    return ((groups_GS / step_G1).round() * step_G1).view_as(inputs)
