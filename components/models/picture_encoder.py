"""An encoder of pictures and captions that the user names: a CLIP or SigLIP model, as a folder of safetensors.

It judges a brought pipeline's pictures, as the shipped judge does the built-in network's. Embeddings have length 1.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from components.stage import StageError

BATCH = 16
# What pictures are normalised with where the folder says nothing: mean and deviation of CLIP (Radford et al. 2021) and
# SigLIP (Zhai et al. 2023). SigLIP 2 of a fixed size calls itself siglip; the other one takes no pictures of one size.
KINDS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": ((0.5,) * 3, (0.5,) * 3),
}
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class PictureEncoder:
    """`size`: the side that pictures are brought to; `name`: what figures call it; `width`: of its embeddings."""

    def __init__(self, folder: Path) -> None:
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if config.model_type not in KINDS:
                raise ValueError(f"model_type {config.model_type} is none of {', '.join(KINDS)}")
            given = {"local_files_only": True, "trust_remote_code": False}
            self._model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **given).eval()
            self._siglip = config.model_type == "siglip"
            self._tokenizer, self._punctuated = _tokenizer(folder, given)
        except (OSError, ValueError) as error:
            raise StageError(f"evaluate.image.encoder: {folder} is no CLIP or SigLIP model: {error}") from error
        self.name = f"{config.model_type}, {folder.name}"
        self.size: int = config.vision_config.image_size
        self._length: int = config.text_config.max_position_embeddings
        processor = folder / "preprocessor_config.json"
        said = json.loads(processor.read_bytes()) if processor.is_file() else {}
        self._mean, self._deviation = (
            torch.tensor(said.get(key, default)).view(3, 1, 1)
            for key, default in zip(("image_mean", "image_std"), KINDS[config.model_type], strict=True)
        )
        self.width: int = self.pictures(torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8)).shape[1]

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
        """Embeddings BD of captions; longer ones than the model reads are cut.

        SigLIP was trained on text in lower case, padded to its length with nothing masked.
        """
        texts = [caption.lower() for caption in captions] if self._siglip else list(captions)
        if not self._punctuated:
            texts = [" ".join(text.translate(WITHOUT_PUNCTUATION).split()) for text in texts]
        padding = "max_length" if self._siglip else True
        tokens = self._tokenizer(texts, truncation=True, max_length=self._length, return_tensors="pt", padding=padding)
        if self._siglip:
            return _unit(self._model.get_text_features(input_ids=tokens["input_ids"]))
        return _unit(self._model.get_text_features(**tokens))

    @torch.inference_mode()
    def probabilities(self, cosines_B: Tensor) -> Tensor | None:
        """SigLIP's own of picture and caption belonging together, of their embeddings' cosines; CLIP has none."""
        if not self._siglip:
            return None
        return torch.sigmoid(cosines_B * self._model.logit_scale.exp() + self._model.logit_bias)


def _tokenizer(folder: Path, given: dict[str, Any]) -> tuple[Any, bool]:
    """A folder's tokenizer, and whether it is to read punctuation.

    That of SigLIP's first version does not, and is read from tokenizer.json: transformers' own wants sentencepiece.
    """
    path = folder / "tokenizer_config.json"
    said = json.loads(path.read_bytes()) if path.is_file() else {}
    if said.get("tokenizer_class") != "SiglipTokenizer":
        return AutoTokenizer.from_pretrained(folder, **given), True
    if not (folder / "tokenizer.json").is_file():
        raise ValueError("it has no tokenizer.json, and spiece.model is not read")
    return PreTrainedTokenizerFast.from_pretrained(folder, **given), False


def _unit(output: Any) -> Tensor:
    embeddings_BD: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return functional.normalize(embeddings_BD.float(), dim=-1)
