"""What was forgotten is measured on concepts that the base has seen, asked in the styles it has seen them in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.evaluation import forgetting
from components.evaluation.forgetting import remembered
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.runtimes.image import Sampler
from tests.components.evaluation.test_image import PAINTING
from tests.tiny_image import StraightBackend, write_tiny_encoder


def test_pictures_are_judged_by_the_names_of_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "base_captions", lambda count, seed, rehearsed: [("red", "red"), ("dog", "dog")])
    torch.manual_seed(0)
    judge, encoder = Judge().eval().requires_grad_(False), TextEncoder(write_tiny_encoder(tmp_path))
    row = remembered(Sampler(StraightBackend(), 4), judge, encoder, PAINTING)
    pictures = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pictures[0, 0] = 255
    assert row == pytest.approx(alignment(judge, pictures, encoder.embed(["red", "dog"])) | {"pictures": 2}, abs=1e-5)
