"""The reference of an exported pipeline: the pipeline itself in diffusers, against which what serves is compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from components.runtimes.base import Floats, ImageRequest


def trajectory(pipeline: DiffusionPipeline, request: ImageRequest, size: int) -> tuple[list[Floats], NDArray[np.uint8]]:
    """What the pipeline takes the picture's latents to be after each step, and the picture of `size` pixels.

    A scheduler that can tell says what it takes the finished latents to be, others where they are now; GenAI gives the
    same. Started from torch's noise of the request's seed.
    """
    latents: list[Floats] = []
    step = pipeline.scheduler.step

    def recorded(*arguments: Any, **keywords: Any) -> Any:
        result = step(*arguments, **keywords)
        latents.append(result[-1].float().numpy().copy())
        return result

    pipeline.scheduler.step = recorded
    try:
        picture_HWC = pipeline(
            request.prompt,
            width=request.size or size,
            height=request.size or size,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=torch.Generator().manual_seed(request.seed),
            output_type="np",
        ).images[0]
    finally:
        del pipeline.scheduler.step  # the class's own again
    return latents, np.rint(picture_HWC * 255).astype(np.uint8)
