"""What an image network meets in service: its inputs on the way from noise to pictures, and the pictures themselves.

Used to calibrate quantisation, to compare engines on equal inputs, and to ship golden inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from components.artifact import canonical, write_text
from components.config import Serving
from components.runtimes.base import Floats, ImageBackend, ImageRequest
from components.runtimes.image import Sampler

NAMES = ("latents", "time", "text", "mask")  # of the exported graphs' inputs, in the order of `ImageBackend.velocity`
Inputs = dict[str, Floats]
GOLDEN_PROMPTS = ("red apple", "grinning face", "blue heart", "rocket: space, launch")
GOLDEN = "golden"
ROWS_PER_TRAJECTORY = 4


class Recorder:
    """A backend that keeps the inputs of every forward pass of another one."""

    def __init__(self, backend: ImageBackend) -> None:
        self.backend = backend
        self.calls: list[tuple[Floats, ...]] = []

    def encode(self, prompts: Sequence[str]) -> tuple[Floats, Floats]:
        return self.backend.encode(prompts)

    def velocity(self, latents_BCHW: Floats, time_B: Floats, text_BLD: Floats, mask_BL: Floats) -> Floats:
        self.calls.append((latents_BCHW, time_B, text_BLD, mask_BL))
        return self.backend.velocity(latents_BCHW, time_B, text_BLD, mask_BL)


def requests_for(captions: Sequence[str], serving: Serving) -> list[ImageRequest]:
    """One request per caption with the defaults of service, seeds counting from 0."""
    steps, guidance = serving.image_steps, serving.image_guidance
    return [ImageRequest(caption, seed, steps, guidance) for seed, caption in enumerate(captions)]


def rows_there_are(serving: Serving) -> int:
    """Rows of the network's inputs on the way to one picture: one a step, two where it is guided."""
    return serving.image_steps * (1 if serving.image_guidance == 1 else 2)


def rows_taken(serving: Serving) -> int:
    """How many of these are taken: few, as different captions matter more."""
    return min(ROWS_PER_TRAJECTORY, rows_there_are(serving))


def trajectory_inputs(sampler: Sampler, requests: Sequence[ImageRequest], count: int) -> Inputs:
    """`count` rows of the network's inputs on the way to the requested pictures, spread evenly over all of them.

    All steps and both halves of guidance are covered, as in service. Raises `ValueError` where there are fewer rows.
    """
    recorder = Recorder(sampler.backend)
    Sampler(recorder, sampler.size, style=sampler.style).generate(requests)
    rows = [[array[i] for array in call] for call in recorder.calls for i in range(len(call[0]))]
    if count > len(rows):
        raise ValueError(f"{len(requests)} trajectories have {len(rows)} rows of inputs, fewer than {count}")
    chosen = np.linspace(0, len(rows) - 1, count).round().astype(int)
    return {name: np.stack([rows[i][column] for i in chosen]) for column, name in enumerate(NAMES)}


def forward(backend: ImageBackend, inputs: Inputs) -> Floats:
    """The network's velocity for a batch of inputs."""
    return backend.velocity(*(inputs[name] for name in NAMES))


def split_rows(inputs: Inputs) -> list[Inputs]:
    """A batch of inputs as batches of one."""
    return [{name: array[i : i + 1] for name, array in inputs.items()} for i in range(len(inputs["time"]))]


def write_golden(sampler: Sampler, serving: Serving, folder: Path) -> None:
    """Inputs and the reference's outputs: arrays in an npz without pickle, requests as JSON."""
    requests = requests_for(GOLDEN_PROMPTS, serving)
    inputs = trajectory_inputs(sampler, requests, count=min(2, rows_there_are(serving)) * len(requests))
    pictures_BHWC = np.stack(sampler.generate(requests))
    folder.mkdir(parents=True, exist_ok=True)
    velocity = forward(sampler.backend, inputs)
    np.savez(folder / "golden.npz", allow_pickle=False, velocity=velocity, pictures=pictures_BHWC, **inputs)
    write_text(folder / "golden.json", canonical({"requests": described(requests)}))


def described(requests: Sequence[ImageRequest]) -> list[dict[str, Any]]:
    """Requests as JSON has them, without what they leave open."""
    return [{name: value for name, value in asdict(request).items() if value is not None} for request in requests]
