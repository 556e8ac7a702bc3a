"""The picture judge: a small network, trained here, that says what a picture looks like and whether it fits a text.

No Inception or CLIP weights are in reach of an ordinary package client, so FID and KID use this network's features:
they compare models of this project with each other and with nothing published elsewhere. Two towers as in CLIP
(Radford et al. 2021, arXiv:2103.00020): a convolutional one for pictures, a linear one over MiniLM's sentence embedding
for texts. Trained on the training split alone; its own accuracy on held-out pictures is reported beside its verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

NAME = "atelier-judge: convolutional two-tower network trained on the training split; not comparable with Inception"
FEATURES = 128
TEXT_WIDTH = 384
WHITE = 1.0  # of a picture in [-1, 1]


@dataclass(frozen=True)
class JudgeTraining:
    """How the judge is trained; the defaults take about half a minute on two cores."""

    seed: int = 0
    steps: int = 300
    batch_size: int = 128
    learning_rate: float = 2e-3
    temperature: float = 0.1
    shift: int = 3


class Judge(nn.Module):
    """Pictures as uint8 BCHW and texts as MiniLM embeddings BD, both to unit vectors of one space.

    Called as a module it gives a picture's standardised features [batch, FEATURES], as torchmetrics' FID and KID want.
    """

    num_features = FEATURES

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128, 256)
        layers: list[nn.Module] = []
        for index, (narrow, wide) in enumerate(zip((3, *widths), widths, strict=False)):
            stride = 1 if index == 0 else 2
            layers += [nn.Conv2d(narrow, wide, 3, stride, 1), nn.GroupNorm(8, wide), nn.SiLU()]
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], FEATURES))
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
    """uint8 pictures as float in [-1, 1]."""
    return pictures_BCHW.float() / 127.5 - 1


def augmented(scaled_BCHW: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """The batch moved by up to `shift` pixels on white, and half the time mirrored."""
    size = scaled_BCHW.shape[-1]
    padded = nn.functional.pad(scaled_BCHW, (shift,) * 4, value=WHITE)
    down, right, mirror = torch.randint(0, 2 * shift + 1, (3,), generator=generator).tolist()
    moved = padded[..., down : down + size, right : right + size]
    return moved.flip(-1) if mirror % 2 else moved


def train_judge(pictures_BCHW: Tensor, embeddings_BD: Tensor, training: JudgeTraining) -> Judge:
    """A judge of uint8 pictures and their captions' MiniLM embeddings; a seed gives the same judge twice."""
    generator = torch.Generator().manual_seed(training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=training.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, total_steps=training.steps)
    for _ in range(training.steps):
        chosen = torch.randperm(len(pictures_BCHW), generator=generator)[: training.batch_size]
        batch = augmented(scaled(pictures_BCHW[chosen]), training.shift, generator)
        logits = judge.picture(batch) @ judge.text(embeddings_BD[chosen]).T / training.temperature
        matching = torch.arange(len(chosen))
        loss = nn.functional.cross_entropy(logits, matching) + nn.functional.cross_entropy(logits.T, matching)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return _standardised(judge.eval().requires_grad_(False), pictures_BCHW)


def _standardised(judge: Judge, pictures_BCHW: Tensor) -> Judge:
    """Features with mean 0 and deviation 1 on the training pictures: KID's kernel depends on their scale."""
    features = torch.cat([judge.trunk(scaled(batch)) for batch in pictures_BCHW.split(256)])
    judge.mean.copy_(features.mean(0))
    judge.deviation.copy_(features.std(0).clamp_min(1e-6))
    return judge


def alignment(judge: Judge, pictures_BCHW: Tensor, embeddings_BD: Tensor) -> dict[str, float]:
    """How well pictures (uint8) fit their own texts rather than the others' of the batch.

    `alignment` is the mean cosine with the own text minus that with the others': 0 for pictures that ignore their text.
    `top1` and `top5`: how often the own text is the best, or among the best five, of all texts.
    """
    cosines_PT = judge.picture(scaled(pictures_BCHW)) @ judge.text(embeddings_BD).T
    count = len(cosines_PT)
    own = cosines_PT.diagonal()
    others = (cosines_PT.sum(1) - own) / (count - 1)
    rank = (cosines_PT > own.unsqueeze(1)).sum(1)
    top1, top5 = ((rank < k).float().mean().item() for k in (1, 5))
    return {"alignment": (own - others).mean().item(), "top1": top1, "top5": top5}
