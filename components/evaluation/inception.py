"""FID and Inception Score on Inception's features, comparable to published ones; `evaluate` adds them to its own.

Both by torchmetrics (Heusel et al. 2017, Salimans et al. 2016). FID is biased upwards at few pictures: read it beside
the number of pictures, never against a figure of another number. The score of a part cannot exceed the number of its
pictures: `inception_score_limit` is the most that these could reach were each of a class of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.models.inception import Inception

BATCH = 32  # pictures at a time: about 1 GB
PARTS = 10  # as the score is published


class _Given(nn.Identity):
    """Stands where torchmetrics wants a network, so that features are computed once for both metrics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def features(network: Inception, pictures_BCHW: Tensor) -> Tensor:
    return torch.cat([network(part_BCHW) for part_BCHW in pictures_BCHW.split(BATCH)])


def scores(network: Inception, real_BD: Tensor, generated_BD: Tensor, seed: int) -> dict[str, float | int]:
    """FID to the real pictures and Inception Score, its deviation over `PARTS` parts and its limit, from features."""
    from torchmetrics.image.inception import InceptionScore

    torch.manual_seed(seed)  # the score draws its parts
    score = InceptionScore(_Given(generated_BD.shape[1]), splits=PARTS)
    score.update(network.logits(generated_BD).double())  # in single precision a probability of 0 would make it NaN
    mean, deviation = score.compute()
    parts = len(generated_BD.chunk(PARTS))  # as torchmetrics divides them: few pictures make fewer parts
    return {
        "inception_fid": frechet(real_BD, generated_BD),
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
