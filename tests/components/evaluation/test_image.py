"""Better pictures measure better; the sheet shows every picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.config import EvaluateImage
from components.data.picture import encode_png
from components.data.sample import Sample
from components.evaluation.image import CAPTION, CELL, SHEET_COLUMNS, distances, evaluate, paint, sheet
from components.models.judge import Judge
from components.models.text_encoder import TextEncoder
from components.runtimes.base import ImageRuntime
from components.runtimes.image import EulerSampler
from tests.tiny_image import StraightBackend, write_tiny_encoder

SETTINGS = EvaluateImage(samples=2, seed=7, steps=2, guidance=1.0, batch_size=2, sheet=2)


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge().eval().requires_grad_(False)


def test_pictures_of_another_kind_lie_farther_than_pictures_of_the_same_kind(judge: Judge) -> None:
    generator = torch.Generator().manual_seed(0)
    bright = torch.randint(128, 256, (300, 3, 16, 16), generator=generator, dtype=torch.uint8)
    dark = torch.randint(0, 64, (150, 3, 16, 16), generator=generator, dtype=torch.uint8)
    near, far = distances(judge, bright[:150], bright[150:], 0), distances(judge, bright[:150], dark, 0)
    assert far["kid"] > 10 * abs(near["kid"]) and far["fid"] > near["fid"]
    assert distances(judge, bright[:150], dark, 0) == far


def test_every_caption_is_painted_in_order_whatever_the_batch() -> None:
    pictures = paint(EulerSampler(StraightBackend(), 4), ["red", "dog", "red", "dog", "dog"], SETTINGS)
    assert [int(picture[0, 0, 0]) for picture in pictures] == [255, 0, 255, 0, 0]


def test_known_and_new_concepts_are_counted_apart(judge: Judge, tmp_path: Path) -> None:
    encoder = TextEncoder(write_tiny_encoder(tmp_path))
    held_out = [
        Sample(name, f"{name} dog", encode_png(np.full((4, 4, 3), shade, np.uint8)), meta={"concept": name})
        for name, shade in (("red", 90), ("blue", 160), ("apple", 230))
    ]
    runtimes: dict[str, ImageRuntime] = {"after": EulerSampler(StraightBackend(), 4)}
    document, painted = evaluate(runtimes, judge, encoder, held_out, {"red", "apple"}, SETTINGS, 4)
    assert [int(picture[0, 0, 0]) for picture in painted["after"]] == [0, 0, 0]
    for row in (document["after"], document["judge_on_real_pictures"]):
        assert row["concept_seen_in_other_styles"]["pictures"] == 2 and row["concept_never_seen"]["pictures"] == 1
    everything_known, _ = evaluate(runtimes, judge, encoder, held_out, {"red", "blue", "apple"}, SETTINGS, 4)
    assert "concept_never_seen" not in everything_known["after"]


def test_the_sheet_leaves_no_picture_out() -> None:
    pictures = [np.full((4, 4, 3), 10 * number, np.uint8) for number in range(1, 12)]
    page = np.asarray(sheet(pictures, ["red apple: fruit"] * 11))
    assert page.shape == (2 * (CELL + CAPTION), SHEET_COLUMNS * CELL, 3)
    for number, picture in enumerate(pictures):
        top, left = number // SHEET_COLUMNS * (CELL + CAPTION), number % SHEET_COLUMNS * CELL
        assert (page[top : top + CELL, left : left + CELL] == picture[0, 0]).all()
