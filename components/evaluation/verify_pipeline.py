"""Does an exported pipeline paint what diffusers paints? The parity check of a brought pipeline (`verify_image`).

The reference is diffusers in float32 with the adapter in its weights; latents are compared after each step, then
pictures. How far they may be apart follows from the precision: multiplied in float32, the export has to be the
reference with the weights that are stored (`components.evaluation.stored`); as it serves, its error has to be what that
reference's is when it multiplies in the same type. Beside it: the adapter changes what is painted, and the same whether
merged or applied; a picture is the same after another one was painted, and in a batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from components.config import Serving, VerifyImage
from components.evaluation.psnr import psnr
from components.evaluation.stored import as_stored
from components.models.pipelines import Family, adapted
from components.models.pipelines.adapters import WEIGHTS
from components.runtimes.base import Floats, ImageRequest
from components.runtimes.image import load_pipeline
from components.runtimes.pipeline import Description, PipelineRuntime, Precision
from components.runtimes.reference import DiffusersPipeline, trajectory
from components.runtimes.trajectories import requests_for

Row = dict[str, Any]
Painted = tuple[list[Floats], NDArray[np.uint8]]  # latents BCHW after each step, and the picture HWC

# Largest difference of latents, relative to the largest of the reference's, where both multiply the same weights in
# float32: 0.1 %, twice the rounding of float16. Tiny pipelines came to 1e-6 in every format; with one matrix 5 % too
# large, to 2e-3 and more.
MAX_ERROR = 2**-10
MAX_ROUNDING = 2.0  # error of what serves, as a multiple of what its arithmetic costs the reference (tiny: 0.9 to 1.2)
CLOSELY = 2  # requests of which that is measured: a reference may take a quarter of an hour for each


def apart(latents: Sequence[Floats], reference: Sequence[Floats]) -> float:
    """The largest relative difference of any step."""
    pairs = zip(latents, reference, strict=True)
    return max(float(np.abs(one - other).max() / (np.abs(other).max() + 1e-12)) for one, other in pairs)


def cosine(latents: Sequence[Floats], reference: Sequence[Floats]) -> float:
    """The smallest cosine of any step."""
    pairs = zip(latents, reference, strict=True)
    return min(float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12)) for a, b in pairs)


def multiple(
    latents: Sequence[Sequence[Floats]], coarse: Sequence[Sequence[Floats]], exact: Sequence[Sequence[Floats]]
) -> float:
    """The error of `latents`, of several pictures, as a multiple of that of `coarse`."""

    def error(pictures: Sequence[Sequence[Floats]]) -> float:
        steps = (pair for one, other in zip(pictures, exact, strict=True) for pair in zip(one, other, strict=True))
        return sum(float(np.square(one - other).sum()) for one, other in steps)

    return float(np.sqrt(error(latents) / error(coarse)))


def merging(base: Path, family: Family, checkpoint: Path, request: ImageRequest, size: int) -> Row:
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


def precise(export: Path, stored: Sequence[Painted], requests: Sequence[ImageRequest]) -> float:
    """How far the export is from the reference with its weights, where both multiply in float32."""
    runtime = load_pipeline(export, exactly=True)
    painted = [runtime.trajectory(request)[0] for request in requests]
    return max(apart(one, other) for one, (other, _) in zip(painted, stored, strict=True))


def references(
    export: Path, pipeline: DiffusionPipeline, family: Family, requests: Sequence[ImageRequest], served_in: Precision
) -> tuple[list[Painted], list[Painted], list[Painted]]:
    """What `pipeline` paints; of the first requests, what it paints with the weights that are stored, in float32 and in
    the type of service. Its weights are those that are stored from then on."""
    weights = Description.read(export).weight_format
    reference = DiffusersPipeline(export, pipeline)
    exact = [reference.trajectory(request) for request in requests]
    as_stored(pipeline, family, weights)
    stored = [reference.trajectory(request) for request in requests[:CLOSELY]] if weights != "f32" else exact[:CLOSELY]
    reference.computes_in = served_in
    coarse = [reference.trajectory(request) for request in requests[:CLOSELY]] if served_in != "f32" else stored
    return exact, stored, coarse


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
    runtime = load_pipeline(export)
    requests = requests_for([runtime.shared_part(caption) for caption in captions], serving)
    painted = [runtime.trajectory(request) for request in requests]
    repeats, seconds = same_alone(runtime, requests[:2])
    description, served_in = runtime.description, runtime.computes_in
    del runtime  # the memory holds the engine or the reference
    exact, stored, coarse = references(export, adapted(base, checkpoint), family, requests, served_in)
    pairs = [(one, other) for (one, _), (other, _) in zip(painted, exact, strict=True)]
    ratios = [psnr(expected, picture) for (_, picture), (_, expected) in zip(painted, exact, strict=True)]
    row: Row = {
        "max_latents_error": max(apart(*pair) for pair in pairs),
        "min_latents_cosine": min(cosine(*pair) for pair in pairs),
        "min_image_psnr": min(ratios),
        "median_image_psnr": float(np.median(ratios)),
        "weights_error": precise(export, stored, requests[:CLOSELY]),
        "computes_in": served_in,
        "seed_repeats": repeats,
        "seconds_per_picture": seconds,
    }
    if served_in != "f32":
        closely = ([latents for latents, _ in each] for each in (painted[:CLOSELY], coarse, stored))
        row["rounding"] = multiple(*closely)
    if (checkpoint / WEIGHTS).is_file():
        one_step = ImageRequest(requests[0].prompt, 0, 1, serving.image_guidance)
        row |= merging(base, family, checkpoint, one_step, description.size)
    row["passed"] = not failed(row, bounds)
    return {
        "passed": row["passed"],
        "parity": {description.engine: row},
        "weight_format": description.weight_format,
    }


def failed(row: Row, bounds: VerifyImage) -> list[str]:
    """What of a row is out of bounds, or no number, in words."""
    most = {"weights_error": MAX_ERROR, "rounding": MAX_ROUNDING, "adapter_merged_error": MAX_ERROR}
    least = {"min_latents_cosine": bounds.min_velocity_cosine, "min_image_psnr": bounds.min_image_psnr}
    known = {name: value for name, value in row.items() if isinstance(value, float)}
    words = [f"{name} {known[name]:.3g} > {most[name]:.3g}" for name in most if not known.get(name, 0.0) <= most[name]]
    words += [f"{name} {known[name]:.3g} < {least[name]:.3g}" for name in least if not known[name] >= least[name]]
    if not row["seed_repeats"]:
        words.append("a seed paints another picture beside others")
    return words if row.get("adapter_effect", 1) > 0 else [*words, "the adapter changes nothing"]
