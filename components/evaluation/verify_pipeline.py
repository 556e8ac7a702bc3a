"""Does an exported pipeline paint what diffusers paints? The parity check of a brought pipeline (`verify_image`).

The reference is diffusers in float32 with the adapter in its weights; latents are compared after each step, then
pictures. Beside it: the adapter changes what is painted, and the same whether merged or applied; a picture is the same
after another one was painted, and in a batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DiffusionPipeline

from components.config import Serving, VerifyImage
from components.evaluation.psnr import psnr
from components.models.pipelines import Family, adapted
from components.models.pipelines.adapters import WEIGHTS
from components.runtimes.base import Floats, ImageRequest
from components.runtimes.pipeline import PipelineRuntime
from components.runtimes.reference import trajectory
from components.runtimes.trajectories import requests_for

# Largest difference of latents, relative to the largest of the reference's, by what the weights are stored in. Tiny
# pipelines in float32 came to 2e-6 over 12 steps. `verify.image` bounds the rest, and int8 alone.
MAX_ERROR = {"f32": 1e-3, "f16": 5e-2}


def apart(latents: Sequence[Floats], reference: Sequence[Floats]) -> float:
    """The largest relative difference of any step."""
    pairs = zip(latents, reference, strict=True)
    return max(float(np.abs(one - other).max() / (np.abs(other).max() + 1e-12)) for one, other in pairs)


def cosine(latents: Sequence[Floats], reference: Sequence[Floats]) -> float:
    """The smallest cosine of any step."""
    pairs = zip(latents, reference, strict=True)
    return min(float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12)) for a, b in pairs)


def merging(base: Path, family: Family, checkpoint: Path, request: ImageRequest, size: int) -> dict[str, float]:
    """How far one step with the adapter merged is from one with it applied, and from one without it."""
    plain = family.read(base)
    without, _ = trajectory(plain, request, size)
    plain.load_lora_weights(str(checkpoint), weight_name=WEIGHTS, local_files_only=True)
    applied, _ = trajectory(plain, request, size)
    del plain  # the memory holds one reference at a time
    merged, _ = trajectory(adapted(base, checkpoint), request, size)
    return {"adapter_merged_error": apart(merged, applied), "adapter_effect": apart(applied, without)}


def same_alone(runtime: PipelineRuntime, requests: Sequence[ImageRequest]) -> tuple[bool, float]:
    """Whether a picture is the same in a batch, alone, and after others; the seconds that one takes."""
    together = runtime.generate(requests)
    began = time.monotonic()
    alone = [runtime.generate([request])[0] for request in reversed(requests)][::-1]
    seconds = (time.monotonic() - began) / len(requests)
    return all(bool((one == other).all()) for one, other in zip(together, alone, strict=True)), seconds


def measure(
    export: Path,
    base: Path,
    family: Family,
    checkpoint: Path,
    captions: Sequence[str],
    serving: Serving,
    bounds: VerifyImage,
) -> dict[str, Any]:
    """The whole of `metrics/image/verify.json` for a pipeline's export, painting as it is served by default."""
    runtime = PipelineRuntime(export)
    size, weights = runtime.description.size, runtime.description.weight_format
    requests = requests_for([runtime.shared_part(caption) for caption in captions], serving)
    reference: DiffusionPipeline = adapted(base, checkpoint)
    errors, cosines, ratios = [], [], []
    for request in requests:
        expected, expected_picture = trajectory(reference, request, size)
        latents, picture = runtime.trajectory(request)
        errors.append(apart(latents, expected))
        cosines.append(cosine(latents, expected))
        ratios.append(psnr(expected_picture, picture))
    del reference  # the memory holds one reference at a time
    repeats, seconds = same_alone(runtime, requests[:2])
    row: dict[str, Any] = {
        "max_latents_error": max(errors),
        "min_latents_cosine": min(cosines),
        "min_image_psnr": min(ratios),
        "median_image_psnr": float(np.median(ratios)),
        "seed_repeats": repeats,
        "seconds_per_picture": seconds,
    }
    one_step = ImageRequest(requests[0].prompt, 0, 1, serving.image_guidance)
    if (checkpoint / WEIGHTS).is_file():
        row |= merging(base, family, checkpoint, one_step, size)
    row["passed"] = bool(
        row["max_latents_error"] <= MAX_ERROR.get(weights, np.inf)
        and row["min_latents_cosine"] >= bounds.min_velocity_cosine
        and row["min_image_psnr"] >= bounds.min_image_psnr
        and row["seed_repeats"]
        and row.get("adapter_merged_error", 0.0) <= MAX_ERROR["f32"]
        and row.get("adapter_effect", 1.0) > 0
    )
    return {"passed": row["passed"], "parity": {"openvino": row}, "weight_format": weights}
