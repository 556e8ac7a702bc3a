"""KID is about 0 for equal distributions, however much the pictures of one caption resemble each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from components.evaluation.distances import _Given, frechet, inception_features, inception_scores, kid, kid_difference
from components.evaluation.gate import ONE_SIDED_95
from components.models.inception import Inception
from tests.components.models.test_inception import random_network

WIDTH = 32


def world(seed: int, pictures: int, correlation: float, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Features of real and generated pictures, those of one caption correlated; without `shift` equally distributed."""
    generator = torch.Generator().manual_seed(seed)
    real_NF, other_NF = torch.randn(2, pictures, WIDTH, generator=generator)
    return real_NF, correlation * real_NF + (1 - correlation**2) ** 0.5 * other_NF + shift


def true_kid(shift: float) -> float:
    """KID between the distributions of `world`: means of the cubic kernel over independent pictures."""
    square = shift**2
    generated = (1 + square) ** 3 + 3 * (1 + square) * (1 + 2 * square) / WIDTH + 6 * square / WIDTH**2
    return generated + (1 + 3 / WIDTH) - 2 * (1 + 3 * (1 + square) / WIDTH)


def numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.7])
def test_10_equal_distributions_have_a_kid_of_zero_whatever_one_caption_has_in_common(correlation: float) -> None:
    values = torch.tensor([kid(*world(seed, 100, correlation), numbered(100)).value for seed in range(60)])
    error = float(values.std()) / 60**0.5
    assert abs(float(values.mean())) < 4 * error < 0.02
    paired = [float(poly_mmd(*world(seed, 100, correlation))) for seed in range(60)]  # every picture with every other
    assert correlation == 0 or sum(paired) / 60 < -10 * error


def test_10_several_drawings_of_one_concept_are_one_observation() -> None:
    concepts = [str(number // 4) for number in range(120)]
    values = []
    for seed in range(60):
        real_NF, generated_NF = (rows.repeat_interleave(4, 0) for rows in world(seed, 30, 0.5))
        values.append(kid(real_NF, generated_NF, concepts).value)
    assert abs(sum(values) / 60) < 4 * float(torch.tensor(values).std()) / 60**0.5


@pytest.mark.parametrize(("correlation", "shift"), [(0.0, 0.0), (0.7, 0.0), (0.5, 0.2)])
def test_10_the_upper_bound_holds_in_95_of_100_worlds(correlation: float, shift: float) -> None:
    covered = 0
    for seed in range(200):
        value, standard_error = kid(*world(seed, 60, correlation, shift), numbered(60))
        covered += value + ONE_SIDED_95 * standard_error >= true_kid(shift)
    assert covered >= 183  # 95 % less 2 standard errors


def test_the_difference_covers_equal_models_and_finds_a_farther_one() -> None:
    covered = clear = 0
    for seed in range(60):
        real_NF, one_NF = world(seed, 60, 0.5)
        _, other_NF = world(1000 + seed, 60, 0.5)
        value, standard_error = kid_difference(real_NF, one_NF, other_NF, numbered(60))
        covered += value + ONE_SIDED_95 * standard_error >= 0
        value, standard_error = kid_difference(real_NF, one_NF + 0.5, other_NF, numbered(60))
        clear += value - ONE_SIDED_95 * standard_error > 0
    assert covered >= 54 and clear == 60


def test_one_model_is_no_farther_than_itself() -> None:
    real_NF, one_NF = world(0, 10, 0.0)
    assert kid_difference(real_NF, one_NF, one_NF, numbered(10)) == (0.0, 0.0)


def test_too_few_concepts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 concepts, not 2"):
        kid(*world(0, 4, 0.0), ["a", "a", "b", "b"])


@pytest.fixture(scope="module")
def network() -> Inception:
    return random_network()


def test_a_set_is_no_distance_from_itself_and_scores_at_least_one(network: Inception) -> None:
    pictures = torch.randint(0, 256, (6, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    real = inception_features(network, pictures)
    same, darker = (
        inception_scores(network, real, real, 7),
        inception_scores(network, real, inception_features(network, pictures // 4), 7),
    )
    assert same["inception_fid"] == pytest.approx(0, abs=1e-3 * float(real.var(0).sum()))
    assert darker["inception_fid"] > 100 * abs(same["inception_fid"])
    assert same["inception_score"] >= 1 and same["inception_score_deviation"] >= 0
    assert same["inception_pictures"] == 6
    assert inception_scores(network, real, real, 7) == same


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
    row = inception_scores(Sure(), features_BD, features_BD, 7)
    assert row["inception_score_limit"] == 12.8
    assert row["inception_score"] == pytest.approx(12.8)
