"""PyTorch modules to ONNX graphs with a free batch dimension, equal bytes for equal weights.

Knows the two quirks of the networks exported here, and nothing of files other than the one it writes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from torch import Tensor, nn

from components.models.denoiser import Denoiser

OPSET = 20
MAX_BATCH = 4096


class TracedDenoiser(nn.Module):
    """The denoiser with the inputs' batch sizes tied together: the exporter does not infer that they are equal."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, latents: Tensor, time: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        mask_BL = mask * torch.ones_like(text[:, :, 0])
        latents_BCHW = latents + 0 * time.reshape(-1, 1, 1, 1) + 0 * text[:, :1, :1, None]
        return self.denoiser(latents_BCHW, time, text, mask_BL)


class TracedEncoder(nn.Module):
    """A transformers encoder reduced to its last hidden states."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state


def export_onnx(module: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    """Write `module` as one ONNX file; `inputs` are examples of batch 2, by the names the graph shall have."""
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    model = traced(module, inputs, (output,), tuple({0: batch} for _ in inputs))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(model, path)


def traced(module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], shapes: Any) -> onnx_ir.Model:
    """`module` as a graph; `shapes`: for each argument the dimensions that may differ from those of the examples."""
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # notes about torchvision's operators and constant folding
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"{type(module).__name__}: torch.onnx.export returned no program")
    _drop_empty_squeezes(program.model)
    _drop_traces(program.model)
    return program.model


def _drop_empty_squeezes(model: onnx_ir.Model) -> None:
    """Remove squeezes of a dimension that is not 1: a no-op in PyTorch (PixArt has one), forbidden in ONNX."""
    for node in list(model.graph):
        source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type == "Squeeze" and source is not None and source.shape == result.shape:
            result.replace_all_uses_with(source)
            model.graph.remove(node, safe=True)


def _drop_traces(model: onnx_ir.Model) -> None:
    """Remove the exporter's stack traces: they name this machine's paths, so equal weights would give unequal bytes."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
