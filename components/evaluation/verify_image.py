"""Stage `verify_image`: do the exported engines paint what PyTorch paints?

Equal inputs, in one run: rows from real trajectories for the network's forward pass, whole pictures for what a user
sees. A failed parity is written down first and stops the pipeline then. Speed is measured by `make bench NAME=engines`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components import config
from components.artifact import canonical, verify, write_text
from components.config import Serving, VerifyImage
from components.data import sample
from components.evaluation import verify_pipeline
from components.evaluation.psnr import psnr
from components.models.brought import BUILT_IN
from components.models.brought_pipeline import opened
from components.models.pipelines import family_of
from components.paths import IMAGE_CHECKPOINT as CHECKPOINT
from components.paths import IMAGE_EXPORT as EXPORT
from components.paths import IMAGE_METRICS, IMAGE_SPLIT
from components.runtimes.base import Floats, ImageRequest
from components.runtimes.image import Engine, Sampler, load_sampler
from components.runtimes.trajectories import Inputs, forward, requests_for, rows_taken, trajectory_inputs
from components.stage import StageError, run

TEST = IMAGE_SPLIT / "test.parquet"
METRICS = IMAGE_METRICS / "verify.json"
ENGINES: tuple[Engine, ...] = ("onnxruntime", "openvino")


def lowest_cosine(one_BCHW: Floats, other_BCHW: Floats) -> float:
    """The smallest cosine between two batches of velocities, row by row."""
    left, right = (array.reshape(len(array), -1).astype(np.float64) for array in (one_BCHW, other_BCHW))
    products = (left * right).sum(axis=1)
    return float((products / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1) + 1e-12)).min())


def parity(
    reference: Sampler, engine: Sampler, inputs: Inputs, requests: Sequence[ImageRequest], bounds: VerifyImage
) -> dict[str, Any]:
    """How far one engine is from the reference, and whether that is within bounds."""
    cosine = lowest_cosine(forward(engine.backend, inputs), forward(reference.backend, inputs))
    pairs = zip(reference.generate(requests), engine.generate(requests), strict=True)
    ratios = [psnr(*pair) for pair in pairs]
    return {
        "min_velocity_cosine": cosine,
        "min_image_psnr": min(ratios),
        "median_image_psnr": float(np.median(ratios)),
        "passed": bool(cosine >= bounds.min_velocity_cosine and min(ratios) >= bounds.min_image_psnr),
    }


def measure(folder: Path, captions: Sequence[str], serving: Serving, bounds: VerifyImage) -> dict[str, Any]:
    """The whole of `metrics/image/verify.json` for an exported folder, painting as it is served by default."""
    reference = load_sampler(folder, "pytorch")
    samplers = {name: load_sampler(folder, name) for name in ENGINES}
    requests = requests_for(captions, serving)
    inputs = trajectory_inputs(reference, requests, len(requests) * rows_taken(serving))
    parities = {name: parity(reference, sampler, inputs, requests, bounds) for name, sampler in samplers.items()}
    return {"passed": all(row["passed"] for row in parities.values()), "parity": parities}


def main() -> None:
    """Write `metrics/image/verify.json`; fails after writing where an engine is not at parity."""
    params = config.load()
    bounds, serving = params.verify.image, params.serving
    export = verify(EXPORT)
    captions = [row.text for row in sample.read(TEST)][: bounds.samples]
    if params.base.image.model == BUILT_IN["image"]:
        document = measure(EXPORT, captions, serving, bounds)
    else:
        base, _ = opened()
        verify(CHECKPOINT)
        document = verify_pipeline.measure(EXPORT, base, family_of(base), CHECKPOINT, captions, serving, bounds)
    document |= {"export": export.digest, "samples": len(captions)}
    document |= {"steps": serving.image_steps, "guidance": serving.image_guidance}
    write_text(METRICS, canonical(document))
    for name, row in document["parity"].items():
        cosine = row.get("min_velocity_cosine", row.get("min_latents_cosine"))
        print(f"{name}: cosine {cosine:.4f} of the network's outputs, picture PSNR {row['min_image_psnr']:.1f} dB")
    if not document["passed"]:
        pipeline = params.base.image.model != BUILT_IN["image"]
        rows = document["parity"].values() if pipeline else ()
        words = "".join(f": {fault}" for row in rows for fault in verify_pipeline.failed(row, bounds))
        raise StageError(f"parity with PyTorch failed{words}; see {METRICS} and the bounds under verify.image")


if __name__ == "__main__":
    run(main)
