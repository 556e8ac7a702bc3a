"""The picture judge: what a picture looks like, and whether it fits a text. A small network shipped with the project.

No Inception or CLIP weights are in reach of an ordinary package client, so FID and KID use this network's features:
they compare models of this project with each other and with nothing published elsewhere. Two towers as in CLIP
(Radford et al. 2021, arXiv:2103.00020): a convolutional one for pictures, a linear one over MiniLM's sentence embedding
for texts. `infra.base.judge` trains it on other artists' drawings than OpenMoji's, which it judges; how often
it names OpenMoji's own drawings stands in its manifest, and is the ceiling of what it can say of generated ones.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.artifact import ArtifactError, verify
from components.paths import JUDGE

NAME = "atelier-judge: two towers trained on ten emoji sets, none of them OpenMoji; not comparable to Inception"
WEIGHTS = "judge.safetensors"
SIZE = 64  # pixels; pictures of another size are resized
FEATURES = 128
TEXT_WIDTH = 384
WIDTHS = (32, 64, 128, 224)
LEAST_KNOWN = 10  # captions whose things a model can paint, for a share of them to tell anything


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.body(x_BCHW)


class Judge(nn.Module):
    """Pictures as uint8 BCHW and texts as MiniLM embeddings BD, both to unit vectors of one space.

    Called as a module it gives a picture's standardised features [batch, FEATURES], as torchmetrics' FID and KID want.
    """

    num_features = FEATURES

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for narrow, wide in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(narrow, wide, 3, 2, 1), _Residual(wide)]
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTHS[-1], FEATURES))
        self.picture_head = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, FEATURES))
        self.text_head = nn.Linear(TEXT_WIDTH, FEATURES)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, pictures_BCHW: Tensor) -> Tensor:
        return (self.trunk(scaled(pictures_BCHW)) - self.mean) / self.deviation

    def picture(self, scaled_BCHW: Tensor) -> Tensor:
        """Unit vectors of pictures in [-1, 1]."""
        return nn.functional.normalize(self.picture_head(self.trunk(scaled_BCHW)), dim=-1)

    def text(self, embeddings_BD: Tensor) -> Tensor:
        """Unit vectors of texts, from their MiniLM sentence embeddings."""
        return nn.functional.normalize(self.text_head(embeddings_BD), dim=-1)


def scaled(pictures_BCHW: Tensor) -> Tensor:
    """uint8 pictures as float in [-1, 1], `SIZE` pixels wide and high."""
    floats_BCHW = pictures_BCHW.float() / 127.5 - 1
    if floats_BCHW.shape[-1] == SIZE:
        return floats_BCHW
    return nn.functional.interpolate(floats_BCHW, (SIZE, SIZE), mode="bilinear", antialias=True)


def save(judge: Judge, folder: Path) -> None:
    """Write the weights in half precision; sealing the folder is the caller's."""
    save_file({name: tensor.half().cpu().contiguous() for name, tensor in judge.state_dict().items()}, folder / WEIGHTS)


def load(folder: Path = JUDGE) -> Judge:
    """Read a sealed judge, frozen; raises `ArtifactError` where bytes or shapes are wrong."""
    verify(folder)
    judge = Judge()
    try:
        judge.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / WEIGHTS).items()})
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{folder}: not a judge's weights: {error}") from error
    return judge.eval().requires_grad_(False)


def named(judge: Judge, pictures_BCHW: Tensor, embeddings_BD: Tensor) -> Tensor:
    """Of each picture (uint8), whether its own text is the best of all: bool B."""
    cosines_PT = judge.picture(scaled(pictures_BCHW)) @ judge.text(embeddings_BD).T
    return cosines_PT.diagonal() >= cosines_PT.max(1).values


def alignment(
    judge: Judge, pictures_BCHW: Tensor, embeddings_BD: Tensor, counted_B: Tensor | None = None
) -> dict[str, float]:
    """How well pictures (uint8) fit their own texts rather than the others' of the batch.

    `alignment` is the mean cosine with the own text minus that with the others': 0 for pictures that ignore their text.
    `top1` and `top5`: how often the own text is the best, or among the best five, of all texts. With `counted_B` (bool)
    these are means over some of the pictures; the texts they compete with stay the same.
    """
    cosines_PT = judge.picture(scaled(pictures_BCHW)) @ judge.text(embeddings_BD).T
    count = len(cosines_PT)
    own = cosines_PT.diagonal()
    others = (cosines_PT.sum(1) - own) / (count - 1)
    rank = (cosines_PT > own.unsqueeze(1)).sum(1)
    counted_B = torch.ones(count, dtype=torch.bool) if counted_B is None else counted_B
    top1, top5 = ((rank < k)[counted_B].float().mean().item() for k in (1, 5))
    return {"alignment": (own - others)[counted_B].mean().item(), "top1": top1, "top5": top5}
