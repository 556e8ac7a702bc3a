"""Stage `verify_image`: do the exported engines paint what PyTorch paints, and how much faster?

Equal inputs, in one run: rows from real trajectories for the network's forward pass, whole pictures for what a user
sees. A failed parity is written down first and stops the pipeline then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components import config
from components.artifact import canonical, verify, write_text
from components.config import Serving, VerifyImage
from components.data import sample
from components.evaluation.timing import interleaved_medians
from components.export.trajectories import NAMES, Inputs, forward, requests_for, rows_of_each, trajectory_inputs
from components.models.denoiser import Denoiser
from components.runtimes.base import ImageRequest
from components.runtimes.image import Engine, Floats, Sampler, load_sampler
from components.runtimes.pytorch import PyTorchBackend
from components.stage import StageError, run

EXPORT = Path("artifacts/image/export")
TEST = Path("data/image/split/test.parquet")
METRICS = Path("metrics/image/verify.json")
ENGINES: tuple[Engine, ...] = ("onnxruntime", "openvino")
BATCHES = (1, 8, 32)
ROWS_PER_TRAJECTORY = 4
PEAK = 255.0


def lowest_cosine(one_BCHW: Floats, other_BCHW: Floats) -> float:
    """The smallest cosine between two batches of velocities, row by row."""
    one, other = (array.reshape(len(array), -1).astype(np.float64) for array in (one_BCHW, other_BCHW))
    products = (one * other).sum(axis=1)
    return float((products / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1) + 1e-12)).min())


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB, at most 100 (equal pictures have no noise)."""
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return 100.0 if error == 0 else float(min(100.0, 10 * np.log10(PEAK**2 / error)))


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


def pytorch_settings(network: Denoiser, inputs: Inputs) -> dict[str, Callable[[], object]]:
    """The reference's forward pass under several settings, to compare exports with the best of them too."""
    tensors = [torch.from_numpy(inputs[name]) for name in NAMES]
    traced = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, tensors)))

    def autocast() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return network(*tensors)

    return {
        "pytorch fp32 eager": lambda: network(*tensors),
        "pytorch bf16 autocast": autocast,
        "pytorch fp32 frozen trace": lambda: traced(*tensors),
    }


@torch.inference_mode()
def speed(samplers: dict[str, Sampler], network: Denoiser, inputs: Inputs, repeats: int) -> dict[str, Any]:
    """Milliseconds per picture of one forward pass, per batch size, and the speed-ups of the exported engines."""
    table: dict[str, Any] = {}
    for batch in BATCHES:
        rows = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in inputs.items()}
        calls = pytorch_settings(network, rows)
        for name in ENGINES:
            calls[name] = partial(forward, samplers[name].backend, rows)
        medians = interleaved_medians(calls, repeats)
        best = min((name for name in medians if name.startswith("pytorch")), key=lambda name: medians[name])
        table[f"batch_{batch}"] = {
            "ms_per_image": {name: 1000 * seconds / batch for name, seconds in medians.items()},
            "best_pytorch": best,
            "speedup": {name: medians["pytorch fp32 eager"] / medians[name] for name in ENGINES},
            "speedup_over_best_pytorch": {name: medians[best] / medians[name] for name in ENGINES},
        }
    return table


def measure(folder: Path, captions: Sequence[str], serving: Serving, bounds: VerifyImage) -> dict[str, Any]:
    """The whole of `metrics/image/verify.json` for an exported folder, painting as it is served by default."""
    reference = load_sampler(folder, "pytorch")
    samplers = {name: load_sampler(folder, name) for name in ENGINES}
    requests = requests_for(captions, serving)
    count = min(ROWS_PER_TRAJECTORY, rows_of_each(serving)) * len(requests)
    inputs = trajectory_inputs(reference.backend, reference.size, requests, count)
    parities = {name: parity(reference, sampler, inputs, requests, bounds) for name, sampler in samplers.items()}
    if not isinstance(reference.backend, PyTorchBackend):
        raise TypeError("the reference runs on PyTorch")
    speeds = speed(samplers, reference.backend.network, inputs, bounds.repeats)
    return {"passed": all(row["passed"] for row in parities.values()), "parity": parities, "speed": speeds}


def main() -> None:
    """Write `metrics/image/verify.json`; fails after writing where an engine is not at parity."""
    params = config.load()
    bounds, serving = params.verify.image, params.serving
    export = verify(EXPORT)
    captions = [row.text for row in sample.read(TEST)][: bounds.samples]
    document = measure(EXPORT, captions, serving, bounds)
    document |= {"export": export.digest, "samples": len(captions)}
    document |= {"steps": serving.image_steps, "guidance": serving.image_guidance}
    write_text(METRICS, canonical(document))
    for name, row in document["parity"].items():
        print(f"{name}: velocity cosine {row['min_velocity_cosine']:.4f}, picture PSNR {row['min_image_psnr']:.1f} dB")
    if not document["passed"]:
        raise StageError(f"parity with PyTorch failed; see {METRICS} and the bounds under verify.image")


if __name__ == "__main__":
    run(main)
