"""An encoder of pictures and captions that the user names: a CLIP or SigLIP model, as a folder of safetensors.

It judges a brought pipeline's pictures, as the shipped judge does the built-in network's. Embeddings have length 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer

from components.stage import StageError

KINDS = ("clip", "siglip", "siglip2")
BATCH = 16
# What CLIP's pictures are normalised with (Radford et al. 2021) where the folder says nothing.
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class PictureEncoder:
    """`size`: the side that pictures are brought to; `name`: what figures call it."""

    def __init__(self, folder: Path) -> None:
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if config.model_type not in KINDS:
                raise ValueError(f"model_type {config.model_type} is none of {', '.join(KINDS)}")
            given = {"local_files_only": True, "trust_remote_code": False}
            self._model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **given).eval()
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **given)
        except (OSError, ValueError) as error:
            raise StageError(f"evaluate.image.encoder: {folder} is no CLIP or SigLIP model: {error}") from error
        self.name = f"{config.model_type}, {folder.name}"
        self.size: int = config.vision_config.image_size
        self._padding = {} if config.model_type == "clip" else {"padding": "max_length"}  # as SigLIP was trained
        self._length: int = config.text_config.max_position_embeddings
        processor = folder / "preprocessor_config.json"
        said = json.loads(processor.read_bytes()) if processor.is_file() else {}
        self._mean, self._deviation = (
            torch.tensor(said.get(key, default)).view(3, 1, 1)
            for key, default in (("image_mean", MEAN), ("image_std", DEVIATION))
        )

    @torch.inference_mode()
    def pictures(self, pictures_BCHW: Tensor) -> Tensor:
        """Embeddings BD of uint8 pictures of any one size."""
        return torch.cat([self._embed(part_BCHW) for part_BCHW in pictures_BCHW.split(BATCH)])

    def _embed(self, pictures_BCHW: Tensor) -> Tensor:
        scaled_BCHW = functional.interpolate(
            pictures_BCHW.float() / 255, (self.size, self.size), mode="bicubic", antialias=True
        ).clamp(0, 1)
        normal_BCHW = (scaled_BCHW - self._mean) / self._deviation
        return _unit(self._model.get_image_features(pixel_values=normal_BCHW))

    @torch.inference_mode()
    def captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings BD of captions; longer ones than the model reads are cut."""
        options: dict[str, Any] = {"padding": True} | self._padding
        tokens = self._tokenizer(
            list(captions), truncation=True, max_length=self._length, return_tensors="pt", **options
        )
        return _unit(self._model.get_text_features(**tokens))


def _unit(output: Any) -> Tensor:
    embeddings_BD: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return functional.normalize(embeddings_BD.float(), dim=-1)
