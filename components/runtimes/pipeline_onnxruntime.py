"""A pipeline painted by ONNX Runtime from graphs that all families have alike.

`encoder.onnx` takes token ids of each tokenizer to the states of a prompt, `network.onnx` is one evaluation of the
network, `decoder.onnx` takes latents to pictures; `sampler.npz` and `sampler.json` hold what else the family and its
scheduler say (`components/export/pipeline_onnxruntime.py` writes all of them). Always float32: what is stored in
16 bits is widened when it is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.artifact import ArtifactError
from components.runtimes.base import Floats, ImageRequest
from components.runtimes.onnxruntime import session
from components.runtimes.pipeline import FOLDER, Keep, PipelineRuntime, TorchNoise

States = dict[str, Floats]


class OnnxRuntimePipeline(PipelineRuntime):
    """Euler's steps along the scheduler's own noise levels, with classifier-free guidance where the family has it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder = folder / FOLDER
        self._encoder, self._network, self._decoder = (
            session(folder / f"{name}.onnx") for name in ("encoder", "network", "decoder")
        )
        try:
            self._sampler: dict[str, Any] = json.loads((folder / "sampler.json").read_bytes())
            with np.load(folder / "sampler.npz", allow_pickle=False) as arrays:
                self._arrays = dict(arrays)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder}: no readable sampler: {error}") from error
        self._reads = {each.name for each in self._network.get_inputs()}

    def _paint(self, request: ImageRequest, side: int, parts: list[str], keep: Keep | None) -> NDArray[np.uint8]:
        latent = side // self._sampler["factor"]
        sigmas, times, start = self._schedule(request.steps)
        x_BCHW = start * TorchNoise(request.seed).draw((1, self._sampler["channels"], latent, latent))
        prompt = self._encode(parts)
        framing = np.array([[side, side, 0, 0, side, side]], np.float32)
        for step in range(request.steps):
            sigma = sigmas[step]
            inputs = {
                "latents": x_BCHW / self._scale(sigma),
                "time": times[step : step + 1],
                "time_ids": framing,
                "guidance": np.array([request.guidance], np.float32),
            }
            output_BCHW = self._guided(inputs, prompt, request.guidance)
            slope_BCHW, told_BCHW = self._slope(x_BCHW, output_BCHW, sigma)
            x_BCHW = x_BCHW + slope_BCHW * (sigmas[step + 1] - sigma)
            if keep is not None:
                keep(step, x_BCHW if told_BCHW is None else told_BCHW)
        (picture_BCHW,) = self._decoder.run(None, {"latents": x_BCHW})
        pixels_HWC = (picture_BCHW[0].clip(-1, 1) / 2 + 0.5).transpose(1, 2, 0)
        return np.rint(pixels_HWC * 255).astype(np.uint8)

    def _schedule(self, steps: int) -> tuple[Floats, Floats, float]:
        """Noise levels of so many steps (one more than steps), the network's times, the scale of the first noise."""
        most = self._arrays["times"].shape[1]
        if steps > most:
            raise ValueError(f"{steps} steps are asked for; this export knows the noise levels of up to {most}")
        names = ("sigmas", "times", "start")
        sigmas_N, times_N, start = (self._arrays[name][steps - 1] for name in names)
        return sigmas_N[: steps + 1], times_N[:steps], float(start)

    def _encode(self, parts: list[str]) -> States:
        """The states of a prompt, each tokenizer's part filled up to the length that its encoder reads."""
        ids = {}
        for (name, limit), (tokenizer, _), part in zip(
            self.description.tokens.items(), self._tokenizers, parts, strict=True
        ):
            tokens = tokenizer.encode(part).ids
            filled = tokens + [self._sampler["pads"][name]] * (limit - len(tokens))
            ids[name] = np.array([filled], np.int64)
        outputs = self._encoder.run(None, ids)
        return dict(zip((each.name for each in self._encoder.get_outputs()), outputs, strict=True))

    def _guided(self, inputs: States, prompt: States, guidance: float) -> Floats:
        conditional = self._predict(inputs | prompt)
        if not self._sampler["guided"] or guidance <= 1:
            return conditional
        empty = {name: self._arrays[f"empty_{name}"] for name in prompt}
        unconditional = self._predict(inputs | empty)
        return unconditional + np.float32(guidance) * (conditional - unconditional)

    def _predict(self, inputs: States) -> Floats:
        given = {name: value.astype(np.float32) for name, value in inputs.items() if name in self._reads}
        output: Floats = self._network.run(None, given)[0]
        return output

    def _scale(self, sigma: float) -> Any:
        """What latents are divided by before the network reads them: of variance 1 (diffusion), or as they are."""
        return np.float32(1) if self._sampler["prediction"] == "flow" else np.sqrt(sigma**2 + np.float32(1))

    def _slope(self, x: Floats, output: Floats, sigma: float) -> tuple[Floats, Floats | None]:
        """How latents change with sigma, and what the finished ones are taken to be where the scheduler says that."""
        if self._sampler["prediction"] == "flow":
            return output, None
        if self._sampler["prediction"] == "epsilon":
            finished = x - sigma * output
        else:  # the velocity
            finished = x / (sigma**2 + 1) - output * (sigma / np.sqrt(sigma**2 + 1))
        return (x - finished) / sigma, finished
