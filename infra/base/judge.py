"""Make the judge: a picture and a text tower, trained on other artists' drawings than the ones it will judge.

Run by hand, seldom, best on a GPU; the result is shipped in components/models/base/judge. Every step takes one drawing
of each of many concepts, moved, turned, resized and recoloured at random, so that the judge sees shapes rather than one
artist's palette. docs/base_image.md records the run.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from components.artifact import seal, staged, verify
from components.data import sample
from components.data.pixels import pixels
from components.data.sample import Sample
from components.models import judge as judges
from components.models.judge import Judge, alignment, scaled
from components.models.text_encoder import TextEncoder
from components.paths import JUDGE
from components.stage import StageError, run
from infra.base import emoji_sets

NAMES = 100  # from which a drawing is to be recognised


@dataclass(frozen=True)
class JudgeTraining:
    seed: int = 0
    steps: int = 8000
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    temperature: float = 0.07


def augmented(scaled_BCHW: Tensor) -> Tensor:
    """Each picture moved, turned, resized, perhaps mirrored, recoloured and outlined, on white."""
    count, device = len(scaled_BCHW), scaled_BCHW.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, device=device)

    angle, zoom, aspect = uniform(-0.35, 0.35), uniform(0.8, 1.35), uniform(0.85, 1.18)
    mirror = torch.where(torch.rand(count, device=device) < 0.3, -1.0, 1.0)
    row_x = torch.stack([zoom * aspect * angle.cos() * mirror, -zoom * angle.sin(), uniform(-0.2, 0.2)], 1)
    row_y = torch.stack([zoom * angle.sin() * mirror, zoom * angle.cos() / aspect, uniform(-0.2, 0.2)], 1)
    grid = nn.functional.affine_grid(torch.stack([row_x, row_y], 1), list(scaled_BCHW.shape), align_corners=False)
    # White is 0 while sampling, so that what comes from outside the picture is white.
    moved = nn.functional.grid_sample(scaled_BCHW - 1, grid, align_corners=False) + 1
    mixing = torch.eye(3, device=device) + 0.15 * torch.randn(count, 3, 3, device=device)
    ink = torch.einsum("bij,bjhw->bihw", mixing, 1 - moved) * uniform(0.6, 1.3).view(-1, 1, 1, 1)
    grey = (torch.rand(count, device=device) < 0.1).view(-1, 1, 1, 1)
    coloured = (1 - torch.where(grey, ink.mean(1, keepdim=True), ink)).clamp(-1, 1)
    return (coloured - outline(coloured) * (2 * torch.rand(count, 1, 1, 1, device=device) - 1).relu()).clamp_min(-1)


def outline(scaled_BCHW: Tensor) -> Tensor:
    """How much the pixels around each differ: the contour that one artist draws in black and another leaves out."""
    brightest = nn.functional.max_pool2d(scaled_BCHW, 3, 1, 1)
    darkest = -nn.functional.max_pool2d(-scaled_BCHW, 3, 1, 1)
    return 2 * (brightest - darkest).amax(1, keepdim=True)


def train_judge(samples: list[Sample], encoder: TextEncoder, training: JudgeTraining, device: torch.device) -> Judge:
    """A judge of the samples' pictures and captions, on the CPU; a seed gives the same judge twice on one device.

    Raises `StageError` where there are fewer concepts than a batch holds.
    """
    torch.manual_seed(training.seed)
    chance = random.Random(training.seed)  # noqa: S311 - not for secrets
    pictures = pixels(samples, judges.SIZE).to(device)
    texts = torch.stack(
        [encoder.embed([s.text for s in samples]), encoder.embed([s.meta["name"] for s in samples])], 1
    ).to(device)
    drawings: dict[str, list[int]] = defaultdict(list)
    for index, s in enumerate(samples):
        drawings[s.meta["concept"]].append(index)
    concepts, count = sorted(drawings), training.batch_size
    if count > len(concepts):
        raise StageError(f"a batch of {count} concepts from {len(concepts)}; give drawings of more, or a smaller batch")
    judge = Judge().to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, total_steps=training.steps)
    matching = torch.arange(count, device=device)
    for step in range(training.steps):
        chosen = torch.tensor([chance.choice(drawings[c]) for c in chance.sample(concepts, count)], device=device)
        alternative = torch.randint(2, (count,), device=device)
        with torch.autocast(device.type, torch.bfloat16):
            seen = judge.picture(augmented(scaled(pictures[chosen])))
            meant = judge.text(texts[chosen, alternative])
        logits = seen.float() @ meant.float().T / training.temperature
        loss = nn.functional.cross_entropy(logits, matching) + nn.functional.cross_entropy(logits.T, matching)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 1000 == 999:
            print(f"judge: step {step + 1}/{training.steps}, loss {loss.item():.3f}", flush=True)
    return _standardised(judge.eval().requires_grad_(False), pictures).cpu()


def _standardised(judge: Judge, pictures_BCHW: Tensor) -> Judge:
    """Features with mean 0 and deviation 1 on the training pictures: KID's kernel depends on their scale."""
    features = torch.cat([judge.trunk(scaled(batch)) for batch in pictures_BCHW.split(256)])
    judge.mean.copy_(features.mean(0))
    judge.deviation.copy_(features.std(0).clamp_min(1e-6))
    return judge


def recognition(judge: Judge, encoder: TextEncoder, samples: list[Sample]) -> dict[str, float]:
    """How well the judge names real drawings: each among `NAMES` names (or as many as there are)."""
    chosen = random.Random(0).sample(samples, min(NAMES, len(samples)))  # noqa: S311 - a sample
    return alignment(judge, pixels(chosen, judges.SIZE), encoder.embed([s.meta["name"] for s in chosen]))


def main(
    steps: Annotated[int, typer.Option(help="Training steps.")] = JudgeTraining.steps,
    data: Annotated[Path, typer.Option(help="What infra.base.emoji_sets wrote.")] = emoji_sets.STYLES,
) -> None:
    """Train the judge and seal it in components/models/base/judge."""
    parent = verify(data).digest
    training = JudgeTraining(steps=steps)
    drawn = sample.read(data / "train.parquet") + sample.read(data / "judged.parquet")
    held_out = sample.read(data / "held_out.parquet")
    others = [s for s in drawn if s.meta["style"] != emoji_sets.OWN_STYLE]
    encoder = TextEncoder()
    judge = train_judge(others, encoder, training, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    judged = {
        "openmoji_of_concepts_seen_in_other_styles": [s for s in drawn if s.meta["style"] == emoji_sets.OWN_STYLE],
        "openmoji_of_unseen_concepts": [s for s in held_out if s.meta["unseen"]],
    }
    metrics = {name: recognition(judge, encoder, samples) for name, samples in judged.items()}
    print(metrics)
    with staged(JUDGE) as folder:
        judges.save(judge, folder)
        seal(folder, line="image", kind="judge", parents={"data": parent}, parameters=asdict(training), metrics=metrics)


if __name__ == "__main__":
    run(main)
