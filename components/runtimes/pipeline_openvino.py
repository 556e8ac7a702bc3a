"""A pipeline painted by OpenVINO GenAI, whose own code knows what its networks are fed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from numpy.typing import NDArray

from components.artifact import ArtifactError
from components.runtimes.base import ImageRequest
from components.runtimes.pipeline import FOLDER, Keep, PipelineRuntime, Precision, TorchNoise, unpacked

# GenAI allocates what the text encoders read at its first picture, with or without the empty prompt of guidance: one
# without guidance makes the next one with it fail, and the other way round. So there is always guidance, of a scale
# that in float32 is the first above 1 where a request wants none: the same picture for twice the work.
LEAST_GUIDANCE = float(np.nextafter(np.float32(1), np.float32(2)))


class OpenVinoPipeline(PipelineRuntime):
    """`exactly`: multiply in float32 whatever the weights are stored in, as those do who ask for float32 weights; else
    in the machine's fastest type. Inputs of 8-bit matrices are never rounded to 8 bits too."""

    def __init__(self, folder: Path, exactly: bool = False) -> None:
        super().__init__(folder)
        self.computes_in = "f32" if exactly else computes_in(self.description.weight_format)
        hints = {"INFERENCE_PRECISION_HINT": self.computes_in, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        try:
            self._pipeline = openvino_genai.Text2ImagePipeline(folder / FOLDER, "CPU", **hints)
        except RuntimeError as error:
            raise ArtifactError(f"{folder / FOLDER}: OpenVINO GenAI cannot load it: {error}") from error
        config = self._pipeline.get_generation_config()
        config.taylorseer_config = None  # by default GenAI extrapolates two of three steps from the seventh on
        self._pipeline.set_generation_config(config)

    def _paint(self, request: ImageRequest, side: int, parts: list[str], keep: Keep | None) -> NDArray[np.uint8]:
        options: dict[str, Any] = {f"prompt_{number}": part for number, part in enumerate(parts[1:], 2)}
        if self.description.sequence is not None:
            options["max_sequence_length"] = self.description.sequence
        if keep is not None:

            def keep_step(step: int, steps: int, latents: Any) -> bool:
                keep(step, unpacked(np.array(latents.data, copy=True)))  # the next step overwrites it
                return False

            options["callback"] = keep_step
        pixels_BHWC = self._pipeline.generate(
            parts[0],
            width=side,
            height=side,
            num_inference_steps=request.steps,
            guidance_scale=max(request.guidance, LEAST_GUIDANCE),
            generator=_Noise(request.seed),
            **options,
        )
        return np.array(pixels_BHWC.data[0], copy=True)


class _Noise(openvino_genai.Generator):
    """What GenAI's own `TorchGenerator` gives, which asks for torch."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._noise = TorchNoise(seed)

    def randn_tensor(self, shape: openvino.Shape) -> openvino.Tensor:
        return openvino.Tensor(self._noise.draw(tuple(shape)))


def computes_in(weight_format: str) -> Precision:
    """The type that this machine's OpenVINO multiplies in, with weights stored so."""
    if weight_format == "f32":
        return "f32"
    fastest: Precision = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    return fastest
