"""The judge learns which text a picture shows, whatever artist drew it, and a seed gives the same judge twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.data import picture
from components.data.pixels import pixels
from components.data.sample import Sample
from components.models.judge import FEATURES, SIZE, Judge, scaled
from components.models.text_encoder import TextEncoder
from components.stage import StageError
from infra.base.judge import JudgeTraining, augmented, outline, recognition, train_judge
from tests.tiny_image import CAPTIONS, write_tiny_encoder

QUICK = JudgeTraining(steps=60, batch_size=8)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(write_tiny_encoder(tmp_path_factory.mktemp("encoder")))


def drawn(style: str, shade: int) -> list[Sample]:
    """Eight concepts, each a grid of light and dark squares of its own; the shade is the artist's."""
    samples = []
    for number, name in enumerate(CAPTIONS):
        cells = np.array([number >> bit & 1 for bit in (0, 1, 2, 0)], np.uint8).reshape(2, 2)
        pixels = 255 - np.kron(cells, np.full((32, 32), shade, np.uint8))
        png = picture.encode_png(np.repeat(pixels[..., None], 3, 2))
        samples.append(Sample(f"{style}-{number}", f"{name}: a grid", png, meta={"name": name, "concept": str(number)}))
    return samples


@pytest.fixture(scope="module")
def judge(encoder: TextEncoder) -> Judge:
    return train_judge(drawn("black", 255) + drawn("grey", 180), encoder, QUICK, torch.device("cpu"))


def test_an_artist_never_seen_is_named_better_than_by_chance(judge: Judge, encoder: TextEncoder) -> None:
    named = recognition(judge, encoder, drawn("dark", 220))
    assert named["top1"] >= 3 / 8 and named["alignment"] > 0.1


def test_features_are_standardised_on_the_training_pictures(judge: Judge) -> None:
    features = judge(pixels(drawn("black", 255) + drawn("grey", 180), SIZE))
    assert features.shape == (16, FEATURES)
    assert features.mean(0).abs().max() < 1e-3
    assert torch.allclose(features.std(0), torch.ones(FEATURES), atol=1e-2)


def test_a_seed_gives_the_same_judge_twice(encoder: TextEncoder) -> None:
    brief = JudgeTraining(steps=3, batch_size=8)
    one, two = (train_judge(drawn("black", 255), encoder, brief, torch.device("cpu")).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_3_a_batch_of_more_concepts_than_there_are_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(StageError, match="a batch of 9 concepts from 8"):
        train_judge(drawn("black", 255), encoder, JudgeTraining(steps=1, batch_size=9), torch.device("cpu"))


def test_augmented_pictures_differ_from_each_other_and_stay_in_range() -> None:
    torch.manual_seed(0)
    same = scaled(pixels(drawn("black", 255)[3:4], SIZE)).expand(6, -1, -1, -1)
    changed = augmented(same)
    assert changed.shape == same.shape and changed.min() >= -1 and changed.max() <= 1
    assert all(not torch.equal(changed[0], other) for other in changed[1:])


def test_outlines_lie_where_colours_meet() -> None:
    flat = torch.ones(1, 3, 8, 8)
    flat[..., 4:] = 0.5
    edges = outline(flat)[0, 0]
    assert (edges[:, 3:5] == 1.0).all() and (edges[:, :3] == 0).all() and (edges[:, 5:] == 0).all()
