"""The image line's sampler: steps of flow matching with classifier-free guidance, the same for every engine.

Pure numpy over a backend that encodes prompts and predicts velocity. Every engine starts from the same noise, which
numpy draws from a request's seed, so that pictures of two engines can be compared pixel by pixel. Flow matching: x_t is
(1 - t) data + t noise, the velocity noise - data; a picture is reached by steps from t = 1 to t = 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from components.artifact import ArtifactError, verify
from components.runtimes.base import Floats, ImageBackend, ImageRequest, ImageRuntime, NotFiniteError
from components.runtimes.pipeline import Description, PipelineRuntime, paints_pipeline

Engine = Literal["pytorch", "onnxruntime", "openvino"]
Solver = Literal["euler", "multistep"]
CHANNELS = 3
STYLE = "style.json"  # of an exported folder: the word that leads its captions, where there is one
STYLED = re.compile(r"[\w-]+ style: ")


class Sampler:
    """An `ImageRuntime` over any backend; requests of one batch may differ in steps, guidance and seed.

    Each step takes one evaluation of the guided velocity. `multistep` extrapolates it from the step before (the second
    order method of Adams and Bashforth, as in Liu et al. 2022, arXiv:2202.09778); `euler` takes it as it is.
    """

    def __init__(
        self, backend: ImageBackend, size: int, solver: Solver = "multistep", style: str | None = None
    ) -> None:
        self.backend = backend
        self.style = style
        self.size = size
        self.solver = solver
        self._empty_LD, self._empty_mask_L = (array[0] for array in backend.encode([""]))

    def generate(self, requests: Sequence[ImageRequest]) -> list[NDArray[np.uint8]]:
        """One uint8 picture [size, size, 3] per request, in order; raises `NotFiniteError`: NaN would become black."""
        if not requests:
            return []
        text_BLD, mask_BL = self.backend.encode([led(request.prompt, self.style) for request in requests])
        steps_B = np.array([request.steps for request in requests])
        guidance_B = np.array([request.guidance for request in requests], np.float32)
        x_BCHW = np.stack([starting_noise(request.seed, self.size) for request in requests])
        previous_BCHW = np.empty_like(x_BCHW)
        for step in range(int(steps_B.max())):
            active = np.flatnonzero(steps_B > step)  # a sample that has taken its steps drops out of the batch
            time_b = (1 - step / steps_B[active]).astype(np.float32)
            velocity = self._guided(x_BCHW[active], time_b, text_BLD[active], mask_BL[active], guidance_B[active])
            extrapolated = step > 0 and self.solver == "multistep"
            change = 1.5 * velocity - 0.5 * previous_BCHW[active] if extrapolated else velocity
            previous_BCHW[active] = velocity
            x_BCHW[active] -= change / steps_B[active].astype(np.float32).reshape(-1, 1, 1, 1)
        if not np.isfinite(x_BCHW).all():
            raise NotFiniteError(requests, [to_picture(x) if np.isfinite(x).all() else None for x in x_BCHW])
        return [to_picture(x_CHW) for x_CHW in x_BCHW]

    multiple = None  # it paints its own size alone

    def read_part(self, prompt: str) -> None:
        """Its encoder reads 16 word pieces, and what it leaves out is not told."""

    def _guided(self, x_BCHW: Floats, time_B: Floats, text_BLD: Floats, mask_BL: Floats, guidance_B: Floats) -> Floats:
        """Velocity after classifier-free guidance (Ho and Salimans 2022); one forward pass for both halves."""
        guided = np.flatnonzero(guidance_B != 1)  # guidance 1 needs no unconditional half
        if not guided.size:
            return self.backend.velocity(x_BCHW, time_B, text_BLD, mask_BL)
        both = self.backend.velocity(
            np.concatenate([x_BCHW, x_BCHW[guided]]),
            np.concatenate([time_B, time_B[guided]]),
            np.concatenate([text_BLD, np.repeat(self._empty_LD[None], guided.size, axis=0)]),
            np.concatenate([mask_BL, np.repeat(self._empty_mask_L[None], guided.size, axis=0)]),
        )
        conditional, unconditional = both[: len(x_BCHW)].copy(), both[len(x_BCHW) :]
        scale = guidance_B[guided].reshape(-1, 1, 1, 1)
        conditional[guided] = unconditional + scale * (conditional[guided] - unconditional)
        return conditional


def led(prompt: str, style: str | None) -> str:
    """The prompt in the style that the model was trained to paint in, unless it asks for one itself."""
    return prompt if style is None or STYLED.match(prompt) else f"{style} style: {prompt}"


def starting_noise(seed: int, size: int) -> Floats:
    """Standard normal noise CHW of a seed, equal on every machine and engine."""
    return np.random.default_rng(seed).standard_normal((CHANNELS, size, size), dtype=np.float32)


def to_picture(x_CHW: Floats) -> NDArray[np.uint8]:
    """Values in [-1, 1] as a uint8 picture HWC; values outside are clipped."""
    return np.rint((np.clip(x_CHW, -1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)


def load_image(folder: Path, engine: Engine | None = None) -> ImageRuntime:
    """Verify the exported folder's digests and load it on an engine; raises `ArtifactError` where it is not whole.

    None: the engine that a pipeline was exported for; OpenVINO for the built-in network.
    """
    verify(folder)
    if not paints_pipeline(folder):
        return load_sampler(folder, engine or "openvino")
    if engine not in (None, made_for := Description.read(folder).engine):
        raise ArtifactError(f"{folder}: a pipeline, exported for {made_for}; there is nothing here for {engine}")
    return load_pipeline(folder)


def load_pipeline(folder: Path, exactly: bool = False) -> PipelineRuntime:
    """As `load_image`, of a pipeline, for a caller that has verified the folder; `exactly`: in float32."""
    if Description.read(folder).engine == "onnxruntime":
        from components.runtimes.pipeline_onnxruntime import OnnxRuntimePipeline

        return OnnxRuntimePipeline(folder)
    from components.runtimes.pipeline_openvino import OpenVinoPipeline  # 60 MB that others do not load

    return OpenVinoPipeline(folder, exactly)


def load_sampler(folder: Path, engine: Engine) -> Sampler:
    """As `load_image`, of the built-in network, for a caller that has verified the folder and wants its backend too."""
    if paints_pipeline(folder):
        raise ArtifactError(f"{folder}: holds a pipeline; this is for the built-in network (base.image.model: sticker)")
    try:
        shape = json.loads((folder / "denoiser" / "config.json").read_bytes())
        size, tokens = int(shape["size"]), int(shape["text_tokens"])
        named = folder / STYLE
        style = str(json.loads(named.read_bytes())["style"]) if named.exists() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}: no readable denoiser/config.json or {STYLE}: {error}") from error
    return Sampler(load_backend(folder, engine, tokens), size, style=style)


def load_backend(folder: Path, engine: Engine, tokens: int) -> ImageBackend:
    """The engine's backend; each engine's library is imported only where it is asked for."""
    if engine == "pytorch":
        from components.runtimes.pytorch import PyTorchBackend

        return PyTorchBackend.read(folder, tokens)
    if engine == "onnxruntime":
        from components.runtimes.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(folder, tokens)
    if engine == "openvino":
        from components.runtimes.openvino import OpenVinoBackend

        return OpenVinoBackend(folder, tokens)
    raise ArtifactError(f"engine {engine!r} is unknown; expected pytorch, onnxruntime or openvino")
