"""A diffusers pipeline as three ONNX graphs and what its scheduler says, as `components.runtimes` paints with them.

What is exported is the family's own code, that which it trains with: token ids to states, one evaluation of the
network, latents to pictures. Noise levels are diffusers' own, written down for every number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from components.artifact import canonical, write_text
from components.export.onnx import traced
from components.models.pipelines import Family, States
from components.stage import StageError

MOST_STEPS = 200
Dimensions = dict[str, dict[int, Any]]
LEAST_STORED = 16  # values, from which on 16 bits save more than widening them costs


class _Traced(nn.Module):
    """Some of a pipeline's modules with the function of them that a graph computes."""

    def __init__(self, modules: Mapping[str, nn.Module], compute: Callable[..., Any]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(modules)
        self.compute = compute

    def forward(self, *inputs: Tensor) -> Any:
        return self.compute(*inputs)


def refuse(steps: int) -> None:
    """Raise `StageError` for more steps than noise levels are written down for."""
    if steps > MOST_STEPS:
        raise StageError(f"serving.image_steps: {steps}; ONNX Runtime paints a pipeline in {MOST_STEPS} at most")


def write_graphs(pipeline: DiffusionPipeline, family: Family, base: Path, limits: dict[str, int], folder: Path) -> None:
    """The three graphs, the sampler and the tokenizers; `limits`: tokens that each tokenizer's encoder reads."""
    folder.mkdir(parents=True)
    for name in limits:
        getattr(pipeline, name).save_pretrained(folder / name)
    states = family.unconditional(pipeline)
    _write_encoder(pipeline, family, limits, folder / "encoder.onnx")
    _write_network(pipeline, family, base, states, folder / "network.onnx")
    _write_decoder(pipeline, family, base, folder / "decoder.onnx")
    _write_sampler(pipeline, family, base, limits, states, folder)


def _write(module: _Traced, inputs: dict[str, Tensor], outputs: Sequence[str], free: Dimensions, path: Path) -> None:
    """`free`: dimensions, by input, that may differ from those of the examples."""
    model = traced(module, inputs, outputs, (tuple(free.get(name) for name in inputs),))
    _narrow(model)
    onnx_ir.save(model, path, external_data=f"{path.name}.data")


def _write_encoder(pipeline: DiffusionPipeline, family: Family, limits: dict[str, int], path: Path) -> None:
    encoders = {name: getattr(pipeline, name) for name in family.encoders if getattr(pipeline, name) is not None}
    for encoder in encoders.values():
        encoder.set_attn_implementation("eager")  # the fused one's masks depend on values, which cannot be traced
    inputs = {name: torch.ones(1, count, dtype=torch.long) for name, count in limits.items()}

    def compute(*ids: Tensor) -> tuple[Tensor, ...]:
        return tuple(family.states(pipeline, dict(zip(limits, ids, strict=True))).values())

    _write(_Traced(encoders, compute), inputs, tuple(family.states(pipeline, inputs)), {}, path)


def _write_network(pipeline: DiffusionPipeline, family: Family, base: Path, states: States, path: Path) -> None:
    network, side = family.network(pipeline), family.native_size(base)
    conditions = states | family.framing((side, side), (0, 0), (side, side))
    if family.guided_rows == 1 and network.config.guidance_embeds:
        conditions["guidance"] = torch.ones(1)
    inputs = {"latents": _latents(family, base), "time": torch.full((1,), 0.5), **conditions}

    def compute(latents: Tensor, time: Tensor, *given: Tensor) -> Tensor:
        return family.predict(network, latents, time, dict(zip(conditions, given, strict=True)))

    _write(_Traced({"network": network}, compute), inputs, ("prediction",), _any_side(family, base), path)


def _write_decoder(pipeline: DiffusionPipeline, family: Family, base: Path, path: Path) -> None:
    def compute(latents: Tensor) -> Tensor:
        return family.to_pictures(pipeline, latents)

    inputs = {"latents": _latents(family, base)}
    _write(_Traced({"vae": pipeline.vae}, compute), inputs, ("pictures",), _any_side(family, base), path)


def _latents(family: Family, base: Path) -> Tensor:
    side = family.native_size(base) // family.factor(base)
    return torch.zeros(1, family.channels(base), side, side)


def _any_side(family: Family, base: Path) -> Dimensions:
    """Square latents of any side that is served."""
    multiple = family.multiple(base)
    units = torch.export.Dim("units", min=1, max=family.native_size(base) // multiple)
    side = (multiple // family.factor(base)) * units
    return {"latents": {2: side, 3: side}}


def _narrow(model: onnx_ir.Model) -> None:
    """Store what holds no more than 16 bits in as many, widened again before it is used."""
    graph, first = model.graph, model.graph[0]
    for name, value in [*graph.initializers.items()]:
        tensor = value.const_value
        if tensor is None or tensor.dtype != onnx_ir.DataType.FLOAT or tensor.size < LEAST_STORED:
            continue
        with np.errstate(over="ignore"):  # what is too large for 16 bits differs, and stays as it is
            halves = tensor.numpy().astype(np.float16)
        if (halves != tensor.numpy()).any():  # of `f16` every weight was rounded by now
            continue
        stored = onnx_ir.tensor(halves, name=f"{name}_stored")
        coarse = onnx_ir.Value(name=stored.name, shape=value.shape, type=onnx_ir.TensorType(stored.dtype))
        coarse.const_value = stored
        widened = onnx_ir.node("Cast", [coarse], {"to": onnx_ir.DataType.FLOAT})
        widened.outputs[0].name = f"{name}_widened"
        value.replace_all_uses_with(widened.outputs[0])
        del graph.initializers[name]
        graph.register_initializer(coarse)
        graph.insert_before(first, widened)


def _write_sampler(
    pipeline: DiffusionPipeline,
    family: Family,
    base: Path,
    limits: dict[str, int],
    states: States,
    folder: Path,
) -> None:
    scheduler = family.as_served(pipeline.scheduler, base)
    arrays = _levels(family, scheduler) | {f"empty_{name}": value.numpy() for name, value in states.items()}
    np.savez_compressed(folder / "sampler.npz", allow_pickle=False, **arrays)
    document = {
        # A flow's file may name another sampler's prediction_type, which diffusers does not read.
        "prediction": "flow" if "FlowMatch" in type(scheduler).__name__ else scheduler.config.prediction_type,
        "guided": family.guided_rows > 1,
        "factor": family.factor(base),
        "channels": family.channels(base),
        "pads": {name: getattr(pipeline, name).pad_token_id for name in limits},
    }
    write_text(folder / "sampler.json", canonical(document))


def _levels(family: Family, scheduler: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Row n - 1: the noise levels, times and scale of the first noise of n steps."""
    sigmas = np.zeros((MOST_STEPS, MOST_STEPS + 1), np.float32)
    times, start = np.zeros((MOST_STEPS, MOST_STEPS), np.float32), np.ones(MOST_STEPS, np.float32)
    for steps in range(1, MOST_STEPS + 1):
        levels_N, times_N = family.levels(scheduler, steps)
        sigmas[steps - 1, : steps + 1], times[steps - 1, :steps] = levels_N.numpy(), times_N.numpy()
        start[steps - 1] = float(getattr(scheduler, "init_noise_sigma", 1.0))
    return {"sigmas": sigmas, "times": times, "start": start}
