"""FID and score from features; random ones, because the published weights cannot be had here."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from components.evaluation.inception import _Given, features, frechet, scores
from components.models.inception import Inception
from tests.components.models.test_inception import random_network


@pytest.fixture(scope="module")
def network() -> Inception:
    return random_network()


def test_a_set_is_no_distance_from_itself_and_scores_at_least_one(network: Inception) -> None:
    pictures = torch.randint(0, 256, (6, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    real = features(network, pictures)
    same, darker = scores(network, real, real, 7), scores(network, real, features(network, pictures // 4), 7)
    assert same["inception_fid"] == pytest.approx(0, abs=1e-3 * float(real.var(0).sum()))
    assert darker["inception_fid"] > 100 * abs(same["inception_fid"])
    assert same["inception_score"] >= 1 and same["inception_score_deviation"] >= 0
    assert same["inception_pictures"] == 6
    assert scores(network, real, real, 7) == same


def test_the_distance_is_torchmetrics_own(network: Inception) -> None:
    generator = torch.Generator().manual_seed(1)
    real, generated = (torch.rand(40, 64, generator=generator).double() * scale for scale in (1, 2))
    fid = FrechetInceptionDistance(_Given(64))
    fid.update(real, real=True)
    fid.update(generated, real=False)
    assert frechet(real, generated) == pytest.approx(float(fid.compute()), rel=1e-4)
    few = frechet(real[:5], generated[:5])  # ten dimensions of 64
    fid.reset()
    fid.update(real[:5], real=True)
    fid.update(generated[:5], real=False)
    assert few == pytest.approx(float(fid.compute()), rel=1e-3)


def test_10_a_score_stands_beside_the_most_that_so_few_pictures_can_reach() -> None:
    class Sure(Inception):
        """Is certain of another class for every picture."""

        def logits(self, features_BD: torch.Tensor) -> torch.Tensor:
            return 50 * torch.eye(1008)[: len(features_BD)]

    features_BD = torch.rand(128, 8, generator=torch.Generator().manual_seed(0))
    row = scores(Sure(), features_BD, features_BD, 7)
    assert row["inception_score_limit"] == 12.8
    assert row["inception_score"] == pytest.approx(12.8)
