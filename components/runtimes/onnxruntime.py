"""ONNX Runtime backend: the exported float32 graphs on the CPU, or on CUDA and TensorRT where they are installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from components.artifact import ArtifactError
from components.runtimes.base import Floats
from components.runtimes.captions import CaptionTokenizer

# In order of preference; an ordinary installation has the last one only.
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxRuntimeBackend:
    """`denoiser/denoiser.onnx` and `encoder/encoder.onnx` of an exported folder; safe to call from threads."""

    def __init__(self, folder: Path, tokens: int) -> None:
        self._tokenizer = CaptionTokenizer(folder / "encoder" / "tokenizer.json", tokens)
        self._encoder = session(folder / "encoder" / "encoder.onnx")
        self._denoiser = session(folder / "denoiser" / "denoiser.onnx")

    def encode(self, prompts: Sequence[str]) -> tuple[Floats, Floats]:
        ids_BL, mask_BL = self._tokenizer(prompts)
        states_BLD = self._encoder.run(None, {"ids": ids_BL, "mask": mask_BL})[0]
        return states_BLD, mask_BL.astype("float32")

    def velocity(self, latents_BCHW: Floats, time_B: Floats, text_BLD: Floats, mask_BL: Floats) -> Floats:
        inputs = {"latents": latents_BCHW, "time": time_B, "text": text_BLD, "mask": mask_BL}
        return self._denoiser.run(None, inputs)[0]


def session(path: Path) -> ort.InferenceSession:
    """A session on the best provider installed; raises `ArtifactError` for a file that is no ONNX graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: constant-folding notes are no news to a user
    providers = [provider for provider in PROVIDERS if provider in ort.get_available_providers()]
    try:
        return ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # the binding's exceptions have no public common base
        raise ArtifactError(f"{path}: not a graph ONNX Runtime can load: {error}") from error
