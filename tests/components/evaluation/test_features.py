"""The judge learns which text a picture shows, gives the same verdict twice, and sees nothing in noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from components.evaluation.features import FEATURES, TEXT_WIDTH, Judge, JudgeTraining, alignment, train_judge

QUICK = JudgeTraining(steps=60, batch_size=32)


def painted(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Flat pictures of eight colours with a little noise, and one embedding per colour."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.arange(count) % 8
    levels = torch.stack([(colour >> bit & 1) * 200 for bit in range(3)], 1)[:, :, None, None]
    pictures = (levels + torch.randint(0, 30, (count, 3, 16, 16), generator=generator)).to(torch.uint8)
    embeddings = torch.nn.functional.normalize(torch.randn(8, TEXT_WIDTH, generator=torch.Generator().manual_seed(0)))
    return pictures, embeddings[colour]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train_judge(*painted(64, seed=1), QUICK)


def test_new_pictures_are_matched_to_their_texts(judge: Judge) -> None:
    scores = alignment(judge, *painted(8, seed=2))
    assert scores["top1"] == 1.0 and scores["alignment"] > 0.3


def test_pictures_that_ignore_their_text_score_about_zero(judge: Judge) -> None:
    _, embeddings = painted(8, seed=2)
    same = torch.full((8, 3, 16, 16), 120, dtype=torch.uint8)
    assert abs(alignment(judge, same, embeddings)["alignment"]) < 0.05


def test_features_are_standardised_on_the_training_pictures(judge: Judge) -> None:
    features = judge(painted(64, seed=1)[0])
    assert features.shape == (64, FEATURES)
    assert features.mean(0).abs().max() < 1e-3
    assert torch.allclose(features.std(0), torch.ones(FEATURES), atol=1e-2)


def test_a_seed_gives_the_same_judge_twice(judge: Judge) -> None:
    again = train_judge(*painted(64, seed=1), QUICK)
    assert all(torch.equal(a, b) for a, b in zip(judge.state_dict().values(), again.state_dict().values(), strict=True))
