"""A folder with a CLIP model gives embeddings of pictures and captions; another folder is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from components.models.picture_encoder import PictureEncoder
from components.stage import StageError
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "clip")


def test_embeddings_are_those_of_the_model_itself(folder: Path) -> None:
    """Against CLIP's own forward pass, on a picture of its own size."""
    from transformers import AutoTokenizer, CLIPModel

    encoder = PictureEncoder(folder)
    picture_BCHW = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    captions = ["a red apple", "a dog that barks at the postman"]
    mean, deviation = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    tokens = AutoTokenizer.from_pretrained(folder)(
        captions, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.inference_mode():
        output = CLIPModel.from_pretrained(folder)(
            pixel_values=(picture_BCHW.float() / 255 - mean) / deviation, **tokens
        )
    assert torch.allclose(encoder.pictures(picture_BCHW), output.image_embeds, atol=1e-4)
    assert torch.allclose(encoder.captions(captions), output.text_embeds, atol=1e-5)


def test_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(StageError, match=r"evaluate\.image\.encoder: .* model_type bert is none of clip"):
        PictureEncoder(tmp_path)
    with pytest.raises(StageError, match="is no CLIP or SigLIP model"):
        PictureEncoder(tmp_path / "nothing")
