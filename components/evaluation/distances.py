"""How far generated pictures are from real ones: KID with a standard error, FID, and the Inception Score.

KID (Binkowski et al. 2018) is the squared maximum mean discrepancy with a cubic kernel. A generated picture resembles
the real picture of its own caption, so that the usual estimate, which compares every generated picture with every real
one, comes out below the truth. Here the sums leave out every two pictures of one concept, within a set and across, so
that only independent pictures are compared: Gretton et al. 2012 (JMLR 13, lemma 6), by concepts for single samples.

The standard error is the jackknife's, leaving out one concept at a time. An interval from it holds for other concepts
drawn like these and this one model: it knows nothing of other trainings or other seeds of the noise. Where the truth
is near 0 it is up to 1.5 times too wide, which errs on the safe side (Efron and Stein 1981). Features stand in rows: N
pictures, F features.

FID and the Inception Score are torchmetrics' (Heusel et al. 2017, Salimans et al. 2016). FID is biased upwards at few
pictures: read it beside the number of pictures, never against a figure of another number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.image.kid import poly_kernel

from components.models.inception import Inception

BATCH = 32  # pictures at a time through Inception: about 1 GB
PARTS = 10  # of the Inception Score, as it is published
LEAST = 3  # concepts: with one left out, two are compared


class Estimate(NamedTuple):
    value: float
    standard_error: float


def kid(real_NF: Tensor, generated_NF: Tensor, concepts: Sequence[str]) -> Estimate:
    """KID; row i of both sets shows `concepts[i]`."""
    return estimate(discrepancies(real_NF, generated_NF), concepts)


def kid_difference(real_NF: Tensor, one_NF: Tensor, other_NF: Tensor, concepts: Sequence[str]) -> Estimate:
    """KID of `one` less that of `other`: concepts that are easy or hard for both cancel."""
    return estimate(discrepancies(real_NF, one_NF) - discrepancies(real_NF, other_NF), concepts)


def discrepancies(real_NF: Tensor, generated_NF: Tensor) -> Tensor:
    """What each two rows add to KID, NN in double precision and symmetric."""
    real_NF, generated_NF = real_NF.double(), generated_NF.double()
    across_NN = poly_kernel(real_NF, generated_NF)
    within_NN = poly_kernel(real_NF, real_NF) + poly_kernel(generated_NF, generated_NF)
    return within_NN - across_NN - across_NN.T


def estimate(discrepancies_NN: Tensor, concepts: Sequence[str]) -> Estimate:
    """Mean over each two rows of different concepts; raises `ValueError` below `LEAST` concepts."""
    numbers = {concept: number for number, concept in enumerate(dict.fromkeys(concepts))}
    count = len(numbers)
    if count < LEAST:
        raise ValueError(f"KID needs pictures of at least {LEAST} concepts, not {count}")
    concept_N = torch.tensor([numbers[concept] for concept in concepts])
    apart_NN = (concept_N[:, None] != concept_N).double()
    none_C = torch.zeros(count, dtype=torch.double)
    sums_C = none_C.index_add(0, concept_N, (discrepancies_NN * apart_NN).sum(1))
    pairs_C = none_C.index_add(0, concept_N, apart_NN.sum(1))
    without_C = (sums_C.sum() - 2 * sums_C) / (pairs_C.sum() - 2 * pairs_C)
    variance = (count - 1) / count * (without_C - without_C.mean()).square().sum()
    return Estimate(float(sums_C.sum() / pairs_C.sum()), float(variance.sqrt()))


class _Given(nn.Identity):
    """Stands where torchmetrics wants a network, so that features are computed once for both metrics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def inception_features(network: Inception, pictures_BCHW: Tensor) -> Tensor:
    return torch.cat([network(part_BCHW) for part_BCHW in pictures_BCHW.split(BATCH)])


def inception_scores(network: Inception, real_BD: Tensor, generated_BD: Tensor, seed: int) -> dict[str, float | int]:
    """FID to the real pictures and Inception Score (`inception_score`), from features."""
    return {"inception_fid": frechet(real_BD, generated_BD), **inception_score(network, generated_BD, seed)}


def inception_score(network: Inception, generated_BD: Tensor, seed: int) -> dict[str, float | int]:
    """Inception Score, its deviation over `PARTS` parts and its limit, from features.

    The score of a part cannot exceed the number of its pictures: the limit is the most that these could reach were each
    of a class of its own.
    """
    from torchmetrics.image.inception import InceptionScore

    torch.manual_seed(seed)  # the score draws its parts
    score = InceptionScore(_Given(generated_BD.shape[1]), splits=PARTS)
    score.update(network.logits(generated_BD).double())  # in single precision a probability of 0 would make it NaN
    mean, deviation = score.compute()
    parts = len(generated_BD.chunk(PARTS))  # as torchmetrics divides them: few pictures make fewer parts
    return {
        "inception_score": float(mean),
        "inception_score_deviation": float(deviation),
        "inception_score_limit": len(generated_BD) / parts,
        "inception_pictures": len(generated_BD),
    }


def frechet(real_BD: Tensor, generated_BD: Tensor) -> float:
    """FID in the coordinates of what both sets span: the same distance, without the eigenvalues of 2,048² (25 s)."""
    from torchmetrics.image.fid import FrechetInceptionDistance  # 3 s, which who paints only shall not wait

    both_BD = torch.cat([real_BD, generated_BD]).double()
    basis_DR = torch.linalg.qr(both_BD.T).Q
    fid = FrechetInceptionDistance(_Given(basis_DR.shape[1]))
    fid.update(real_BD.double() @ basis_DR, real=True)
    fid.update(generated_BD.double() @ basis_DR, real=False)
    return float(fid.compute())
