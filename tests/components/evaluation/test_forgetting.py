"""What was forgotten is measured on concepts that the base has seen, asked in the styles it has seen them in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from components.data.openmoji import catalogue
from components.evaluation import forgetting
from components.evaluation.forgetting import base_captions, remembered
from components.evaluation.image import base_concepts
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_BASE as BASE
from components.runtimes.image import Sampler
from tests.components.evaluation.test_image import PAINTING
from tests.conftest import ROOT
from tests.tiny_image import StraightBackend, write_tiny_encoder


def test_the_prompts_are_captions_the_base_has_learnt(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    captions = base_captions(40, 7)
    assert len(captions) == len(set(captions)) == 40 and captions == base_captions(40, 7) != base_captions(40, 8)
    seen = set(json.loads((BASE / "training_ids.json").read_bytes()))
    codes = {entry.caption: entry.hexcode for entry in catalogue(assets)}
    for prompt, name in captions:
        style, _, caption = prompt.partition(" style: ")
        assert f"{style}-{codes[caption]}" in seen and caption.startswith(name)
    assert {prompt.partition(" ")[0] for prompt, _ in captions} == {"openmoji", "noto", "twemoji", "fluent"}
    assert len(base_captions(10_000, 7)) == len(base_concepts() & {e.concept for e in catalogue(assets)})


def test_pictures_are_judged_by_the_names_of_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "base_captions", lambda count, seed: [("red", "red"), ("dog", "dog")])
    torch.manual_seed(0)
    judge, encoder = Judge().eval().requires_grad_(False), TextEncoder(write_tiny_encoder(tmp_path))
    row = remembered(Sampler(StraightBackend(), 4), judge, encoder, PAINTING)
    pictures = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pictures[0, 0] = 255
    assert row == pytest.approx(alignment(judge, pictures, encoder.embed(["red", "dog"])) | {"pictures": 2}, abs=1e-5)
