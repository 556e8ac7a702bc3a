"""Better pictures measure better, seen and held-out ones apart, and copies are found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from bentos.gateway.images import sampling
from components.config import Variant, load
from components.data.picture import encode_png
from components.data.pixels import pixels
from components.data.sample import Sample
from components.evaluation import image
from components.evaluation.image import (
    CELL,
    COLUMNS,
    WORDS,
    Captions,
    Painting,
    distances,
    evaluate,
    nearest,
    paint,
    require_concepts,
    sheet,
    without_model,
)
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.runtimes.base import ImageRequest, ImageRuntime
from components.runtimes.image import Sampler
from components.stage import StageError
from tests.conftest import ROOT
from tests.tiny_image import StraightBackend, write_tiny_encoder

PAINTING = Painting(steps=2, guidance=1.0, seed=7, batch_size=2)


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge().eval().requires_grad_(False)


def test_pictures_of_another_kind_lie_farther_than_pictures_of_the_same_kind(judge: Judge) -> None:
    generator = torch.Generator().manual_seed(0)
    bright = torch.randint(128, 256, (300, 3, 16, 16), generator=generator, dtype=torch.uint8)
    dark = torch.randint(0, 64, (150, 3, 16, 16), generator=generator, dtype=torch.uint8)
    concepts = [str(number) for number in range(150)]
    near, far = distances(judge, bright[:150], bright[150:], concepts), distances(judge, bright[:150], dark, concepts)
    assert far["kid"] > 10 * abs(near["kid"]) and far["fid"] > near["fid"]
    assert abs(near["kid"]) < 3 * near["kid_standard_error"]


def test_pictures_of_one_group_of_the_split_are_one_observation(tiny_encoder: Path) -> None:
    samples = [
        Sample("1", "a red cat", drawn("", 1).image, meta={"split_group": "cats", "concept": "red"}),
        Sample("2", "a cat", drawn("", 2).image, meta={"split_group": "cats"}),
        Sample("3", "dog", drawn("", 3).image, meta={"concept": "dog"}),
        Sample("4", "dog", drawn("", 4).image),
    ]
    held_out = Captions.of(samples, TextEncoder(tiny_encoder), 4)
    assert held_out.concepts == ["cats", "cats", "dog", "dog"]
    with pytest.raises(StageError, match=r"of 2 concepts; KID needs 3: add some, or raise split\.image\.test"):
        require_concepts(held_out)


def drawn(name: str, shade: int) -> Sample:
    return Sample(name, name, encode_png(np.full((4, 4, 3), shade, np.uint8)), meta={"concept": name})


def test_15_pictures_are_painted_as_a_variant_that_sets_nothing_is_served() -> None:
    params = load(ROOT / "params.yaml")
    serving = params.serving.model_copy(update={"image_steps": 5, "image_guidance": 1.5})
    asked: list[ImageRequest] = []

    class Recorder(Sampler):
        def generate(self, requests: Sequence[ImageRequest]) -> list[NDArray[np.uint8]]:
            asked.extend(requests)
            return super().generate(requests)

    painting = Painting.served(params.model_copy(update={"serving": serving}))
    paint(Recorder(StraightBackend(), 4), ["red", "dog"], painting)
    assert {(request.steps, request.guidance) for request in asked} == {sampling(Variant(weight=1.0), serving)}
    assert [request.seed for request in asked] == [params.evaluate.image.seed + number for number in (0, 1)]


def test_every_caption_is_painted_in_order_whatever_the_batch() -> None:
    pictures = paint(Sampler(StraightBackend(), 4), ["red", "dog", "red", "dog", "dog"], PAINTING)
    assert pictures[:, 0, 0, 0].tolist() == [255, 0, 255, 0, 0]


def test_seen_known_and_new_concepts_are_counted_apart(judge: Judge, tmp_path: Path) -> None:
    encoder = TextEncoder(write_tiny_encoder(tmp_path))
    seen = Captions.of([drawn("dog", 90), drawn("red", 100)], encoder, 4)
    held_out = Captions.of([drawn("red", 90), drawn("blue", 160), drawn("apple", 230)], encoder, 4)
    runtimes: dict[str, ImageRuntime] = {name: Sampler(StraightBackend(), 4) for name in ("before", "after")}
    document, painted = evaluate(runtimes, judge, seen, held_out, {"red", "apple"}, PAINTING)
    assert [pictures[:, 0, 0, 0].tolist() for pictures in painted["after"]] == [[0, 255], [255, 0, 0]]
    for row in (document["after"], document["judge_on_real_pictures"]):
        groups = ("concept_seen_in_other_styles", "concept_never_seen", "seen_captions")
        assert [row[group]["pictures"] for group in groups] == [2, 1, 2]
    everything_known, _ = evaluate(runtimes, judge, seen, held_out, {"red", "blue", "apple"}, PAINTING)
    assert "concept_never_seen" not in everything_known["after"]
    assert document["known_to_base"]["captions"] == 5 and document["kid_over_base"]["value"] == 0


def test_9_what_the_base_can_paint_is_compared_with_the_real_pictures(
    judge: Judge, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "named", lambda judge, pictures_BCHW, embeddings_BD: pictures_BCHW[:, 0, 0, 0] > 95)
    monkeypatch.setattr(image, "LEAST_KNOWN", 3)
    encoder = TextEncoder(tiny_encoder)
    seen = Captions.of([drawn("dog", 90), drawn("red", 100)], encoder, 4)
    held_out = Captions.of([drawn("red", 90), drawn("blue", 160), drawn("apple", 230)], encoder, 4)
    before, after = (seen.real_BCHW, held_out.real_BCHW), (seen.real_BCHW.flip(0), held_out.real_BCHW.flip(0))
    document = image.beside_base(judge, seen, held_out, before, after)
    assert document["known_to_base"] == pytest.approx({"captions": 5, "known": 3, "after": 1 / 3, "real": 1.0})
    assert document["kid_over_base"].keys() == {"value", "standard_error"}
    monkeypatch.setattr(image, "LEAST_KNOWN", 4)
    few = image.beside_base(judge, seen, held_out, before, after)
    assert few["known_to_base"] == {"captions": 5, "known": 3}


def test_11_pictures_that_nobody_painted_are_judged_too(judge: Judge, tmp_path: Path) -> None:
    encoder = TextEncoder(write_tiny_encoder(tmp_path))
    held_out = Captions.of([drawn("red", 90), drawn("blue", 160), drawn("apple", 230)], encoder, 4)
    training = [drawn("apple", 10), drawn("red", 20), drawn("blue", 30)]
    rows = without_model(judge, encoder, held_out, training, pixels(training, 4))
    pictures = pixels([training[1], training[2], training[0]], 4)
    expected = alignment(judge, pictures, held_out.embeddings_BD)
    expected |= distances(judge, held_out.real_BCHW, pictures, held_out.concepts)
    assert rows["nearest_training_picture"] == pytest.approx(expected)
    assert rows["shuffled_real_pictures"].keys() == {"alignment", "top1", "top5"}


def test_a_copy_is_found_and_its_distance_is_zero() -> None:
    training = torch.stack([torch.full((3, 4, 4), shade, dtype=torch.uint8) for shade in (0, 100, 255)])
    errors, indices = nearest(training[1:2].repeat(2, 1, 1, 1) + torch.tensor([0, 51]).view(2, 1, 1, 1), training)
    assert indices.tolist() == [1, 1] and errors.tolist() == pytest.approx([0.0, 0.2], abs=1e-3)


def test_the_rows_and_sheets_name_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in ("METRICS", "PICTURES", "SHEETS"):
        monkeypatch.setattr(image, constant, tmp_path / constant.lower())
    samples = [drawn("red", 90), drawn("blue", 160)]
    pictures = pixels(samples, 4)
    held_out = Captions(samples, torch.empty(0), pictures)
    painted = dict.fromkeys(("before", "after"), (pictures, pictures))
    image.write({"pictures": 2}, painted, samples, held_out, (samples[::-1], pictures.flip(0)), 1)
    rows = (tmp_path / "pictures").read_text().splitlines()
    assert rows[1:] == ["red,red,red,0.0000", "blue,blue,blue,0.0000"]
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {
        "seen.png",
        "held_out.png",
        "nearest.png",
        "beside.png",
    }
    page = np.asarray(Image.open(tmp_path / "sheets/beside.png"))
    assert page.shape[0] == 3 * (CELL + WORDS) and page[0, 0, 0] == 90 and page[0, 2 * CELL + 1, 0] == 255


def test_the_base_knows_concepts_from_other_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert {"1F680", "1F34E"} <= image.base_concepts()


def test_the_sheet_leaves_no_picture_out() -> None:
    pictures = [np.full((4, 4, 3), 10 * number, np.uint8) for number in range(1, 12)]
    page = np.asarray(sheet(pictures, ["red apple: fruit"] * 11))
    assert page.shape == (2 * (CELL + WORDS), COLUMNS * CELL, 3)
    for number, picture in enumerate(pictures):
        top, left = number // COLUMNS * (CELL + WORDS), number % COLUMNS * CELL
        assert (page[top : top + CELL, left : left + CELL] == picture[0, 0]).all()
        assert (page[top + CELL : top + CELL + WORDS, left : left + CELL] < 128).any()
