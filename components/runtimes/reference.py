"""The reference of an exported pipeline: the pipeline itself in diffusers, against which what serves is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.models.embeddings import Timesteps
from numpy.typing import NDArray

from components.runtimes.base import Floats, ImageRequest
from components.runtimes.pipeline import Keep, PipelineRuntime, Precision, unpacked

TYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


class DiffusersPipeline(PipelineRuntime):
    """Paints as the export that `folder` describes, by diffusers; `computes_in` may be set between two pictures."""

    def __init__(self, folder: Path, pipeline: DiffusionPipeline, computes_in: Precision = "f32") -> None:
        super().__init__(folder)
        self._pipeline = pipeline
        self.computes_in = computes_in
        # OpenVINO GenAI leaves the fraction of a value out, and so makes half of them 1 less than rounding does.
        self._whole_values = np.trunc if self.description.engine == "openvino" else np.rint
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):  # between the networks all engines compute in float32
                part.register_forward_hook(_widened)
                for times in (module for module in part.modules() if isinstance(module, Timesteps)):
                    times.register_forward_pre_hook(self._coarse)

    def _paint(self, request: ImageRequest, side: int, parts: list[str], keep: Keep | None) -> NDArray[np.uint8]:
        with torch.autocast("cpu", TYPES.get(self.computes_in), enabled=self.computes_in in TYPES):
            latents, picture = trajectory(self._pipeline, request, side, parts, self._whole_values)
        if keep is not None:
            for step, latents_BCHW in enumerate(latents):
                keep(step, latents_BCHW)
        return picture

    def _coarse(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """A step's time as the engine has it: that is rounded, too, where autocast leaves it alone."""
        return tuple(each.to(TYPES.get(self.computes_in, torch.float32)).float() for each in inputs)


def _widened(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
    return tuple(each.float() for each in output) if type(output) is tuple else output


def trajectory(
    pipeline: DiffusionPipeline,
    request: ImageRequest,
    size: int,
    parts: Sequence[str] = (),
    whole: Callable[[Floats], Floats] = np.rint,
) -> tuple[list[Floats], NDArray[np.uint8]]:
    """What the pipeline takes the picture's latents to be after each step, and the picture of `size` pixels.

    A scheduler that can tell says what it takes the finished latents to be, others where they are now; GenAI gives the
    same. Started from torch's noise of the request's seed. `parts`: what each text encoder is to read of the prompt.
    """
    others = {f"prompt_{number}": part for number, part in enumerate(parts[1:], 2)}
    latents: list[Floats] = []
    step = pipeline.scheduler.step

    def recorded(*arguments: Any, **keywords: Any) -> Any:
        result = step(*arguments, **keywords)
        latents.append(unpacked(result[-1].float().numpy().copy()))
        return result

    pipeline.scheduler.step = recorded
    try:
        picture_HWC = pipeline(
            parts[0] if parts else request.prompt,
            width=request.size or size,
            height=request.size or size,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=torch.Generator().manual_seed(request.seed),
            output_type="np",
            **others,
        ).images[0]
    finally:
        del pipeline.scheduler.step  # the class's own again
    return latents, whole(picture_HWC * 255).astype(np.uint8)
