"""Better pictures measure better, seen and held-out ones apart, and copies are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.config import EvaluateImage
from components.data.picture import encode_png
from components.data.pixels import pixels
from components.data.sample import Sample
from components.evaluation import image
from components.evaluation.image import Captions, distances, evaluate, nearest, paint
from components.models.judge import Judge
from components.models.text_encoder import TextEncoder
from components.runtimes.base import ImageRuntime
from components.runtimes.image import Sampler
from tests.conftest import ROOT
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


def drawn(name: str, shade: int) -> Sample:
    return Sample(name, name, encode_png(np.full((4, 4, 3), shade, np.uint8)), meta={"concept": name})


def test_every_caption_is_painted_in_order_whatever_the_batch() -> None:
    pictures = paint(Sampler(StraightBackend(), 4), ["red", "dog", "red", "dog", "dog"], SETTINGS)
    assert pictures[:, 0, 0, 0].tolist() == [255, 0, 255, 0, 0]


def test_seen_known_and_new_concepts_are_counted_apart(judge: Judge, tmp_path: Path) -> None:
    encoder = TextEncoder(write_tiny_encoder(tmp_path))
    seen = Captions.of([drawn("dog", 90), drawn("red", 100)], encoder, 4)
    held_out = Captions.of([drawn("red", 90), drawn("blue", 160), drawn("apple", 230)], encoder, 4)
    runtimes: dict[str, ImageRuntime] = {"after": Sampler(StraightBackend(), 4)}
    document, painted = evaluate(runtimes, judge, seen, held_out, {"red", "apple"}, SETTINGS)
    assert [pictures[:, 0, 0, 0].tolist() for pictures in painted["after"]] == [[0, 255], [255, 0, 0]]
    for row in (document["after"], document["judge_on_real_pictures"]):
        groups = ("concept_seen_in_other_styles", "concept_never_seen", "seen_captions")
        assert [row[group]["pictures"] for group in groups] == [2, 1, 2]
    everything_known, _ = evaluate(runtimes, judge, seen, held_out, {"red", "blue", "apple"}, SETTINGS)
    assert "concept_never_seen" not in everything_known["after"]


def test_a_copy_is_found_and_its_distance_is_zero() -> None:
    training = torch.stack([torch.full((3, 4, 4), shade, dtype=torch.uint8) for shade in (0, 100, 255)])
    errors, indices = nearest(training[1:2].repeat(2, 1, 1, 1) + torch.tensor([0, 51]).view(2, 1, 1, 1), training)
    assert indices.tolist() == [1, 1] and errors.tolist() == pytest.approx([0.0, 0.2], abs=1e-3)


def test_the_rows_and_sheets_name_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in ("METRICS", "PICTURES", "SHEETS"):
        monkeypatch.setattr(image, constant, tmp_path / constant.lower())
    samples = [drawn("red", 90), drawn("blue", 160)]
    pictures = pixels(samples, 4)
    image.write({"pictures": 2}, (pictures, pictures), samples, samples, (samples[::-1], pictures.flip(0)), 1)
    rows = (tmp_path / "pictures").read_text().splitlines()
    assert rows[1:] == ["red,red,red,0.0000", "blue,blue,blue,0.0000"]
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"seen.png", "held_out.png", "nearest.png"}


def test_the_base_knows_concepts_from_other_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert {"1F680", "1F34E"} <= image.base_concepts()
