"""OpenVINO backend: the exported intermediate representation on the CPU, int8 where the export quantised it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import openvino as ov

from components.artifact import ArtifactError
from components.runtimes.base import Floats
from components.runtimes.captions import CaptionTokenizer


class OpenVinoBackend:
    """`denoiser/denoiser.xml` and `encoder/encoder.xml` of an exported folder."""

    def __init__(self, folder: Path, tokens: int) -> None:
        core = ov.Core()
        self._tokenizer = CaptionTokenizer(folder / "encoder" / "tokenizer.json", tokens)
        # Captions are encoded once per picture, the denoiser runs 2 x steps times: only the latter needs to be fast.
        self._encoder = compiled(core, folder / "encoder" / "encoder.xml", precision="f32")
        self._denoiser = compiled(core, folder / "denoiser" / "denoiser.xml", precision=None)
        self._one_at_a_time = Lock()  # a compiled model's default request is not safe to share between threads

    def encode(self, prompts: Sequence[str]) -> tuple[Floats, Floats]:
        ids_BL, mask_BL = self._tokenizer(prompts)
        with self._one_at_a_time:
            states_BLD = self._encoder({"ids": ids_BL, "mask": mask_BL})[0]
        return states_BLD, mask_BL.astype("float32")

    def velocity(self, latents_BCHW: Floats, time_B: Floats, text_BLD: Floats, mask_BL: Floats) -> Floats:
        inputs = {"latents": latents_BCHW, "time": time_B, "text": text_BLD, "mask": mask_BL}
        with self._one_at_a_time:
            return self._denoiser(inputs)[0]


def compiled(core: ov.Core, path: Path, precision: str | None) -> ov.CompiledModel:
    """Compile for the CPU; `precision` None leaves the machine's fastest type (bf16 where the CPU has it)."""
    hints = {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}
    try:
        return core.compile_model(path, "CPU", hints)
    except RuntimeError as error:
        raise ArtifactError(f"{path}: not a model OpenVINO can load: {error}") from error
