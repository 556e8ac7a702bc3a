"""Stage `evaluate` of the image line: pictures of held-out captions, before and after fine-tuning, judged and shown.

KID (Binkowski et al. 2018) and FID (Heusel et al. 2017) by torchmetrics between generated and held-out pictures, on the
features of this project's own judge, which has learnt from other artists' drawings; alignment of picture and name, and
how often the name is the best among all, by the same judge. Seeds are fixed, and the sheet leaves no picture out. At a
few hundred samples FID is biased upwards: it is shown with its N, the gate uses KID. Held-out concepts that the base
has seen in other styles are counted apart from those it has never seen.
"""

from __future__ import annotations

import json
import random
import textwrap
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from components import config
from components.artifact import canonical, write_text
from components.config import EvaluateImage
from components.data import sample
from components.data.concept import concept
from components.data.picture import decode
from components.data.sample import Sample
from components.models import denoiser
from components.models import judge as judges
from components.models.judge import FEATURES, NAME, Judge, alignment
from components.models.text_encoder import TextEncoder
from components.runtimes.base import ImageRequest, ImageRuntime
from components.runtimes.image import EulerSampler
from components.runtimes.pytorch import PyTorchBackend
from components.stage import StageError, run

SPLIT = Path("data/image/split")
BASE = Path("components/models/base/image")
CHECKPOINT = Path("artifacts/image/checkpoint")
METRICS = Path("metrics/image/evaluate.json")
SHEET = Path("artifacts/image/sheet.png")
KID_SUBSETS = 50
SHEET_COLUMNS, CELL, CAPTION = 8, 128, 44  # pictures per row; pixels of a picture's side and of the words below it

Pictures = list[NDArray[np.uint8]]


def pixels(samples: Sequence[Sample], size: int) -> Tensor:
    """Pictures of samples as uint8 BCHW."""
    decoded = [decode(s.image or b"", size) for s in samples]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def paint(runtime: ImageRuntime, captions: Sequence[str], settings: EvaluateImage) -> Pictures:
    """One picture per caption; the n-th starts from seed `settings.seed` + n."""
    requests = [
        ImageRequest(caption, settings.seed + number, settings.steps, settings.guidance)
        for number, caption in enumerate(captions)
    ]
    batches = [requests[i : i + settings.batch_size] for i in range(0, len(requests), settings.batch_size)]
    return [picture for batch in batches for picture in runtime.generate(batch)]


def distances(judge: Judge, real_BCHW: Tensor, generated_BCHW: Tensor, seed: int) -> dict[str, float]:
    """FID, and KID with the deviation of its estimate over random subsets, between two sets of uint8 pictures."""
    torch.manual_seed(seed)  # KID draws its subsets from torch's generator
    side = real_BCHW.shape[-1]
    kid = KernelInceptionDistance(judge, subsets=KID_SUBSETS, subset_size=max(2, len(real_BCHW) // 2))
    fid = FrechetInceptionDistance(judge, input_img_size=(3, side, side))
    for metric in (kid, fid):
        metric.update(real_BCHW, real=True)
        metric.update(generated_BCHW, real=False)
    mean, deviation = kid.compute()
    return {"kid": float(mean), "kid_deviation": float(deviation), "fid": float(fid.compute())}


def evaluate(
    runtimes: dict[str, ImageRuntime],
    judge: Judge,
    encoder: TextEncoder,
    held_out: Sequence[Sample],
    known: AbstractSet[str],
    settings: EvaluateImage,
    size: int,
) -> tuple[dict[str, Any], dict[str, Pictures]]:
    """The metrics document and every generated picture.

    `runtimes` are called `before` and `after`; `known` are the concepts the base has seen.
    """
    captions = [s.text for s in held_out]
    embeddings_BD = encoder.embed([str(s.meta.get("name") or s.text) for s in held_out])
    real_BCHW = pixels(held_out, size)
    known_B = torch.tensor([s.meta.get("concept") in known for s in held_out])

    def named(pictures_BCHW: Tensor) -> dict[str, Any]:
        groups = {"concept_seen_in_other_styles": known_B, "concept_never_seen": ~known_B}
        apart = {
            name: alignment(judge, pictures_BCHW, embeddings_BD, counted_B) | {"pictures": int(counted_B.sum())}
            for name, counted_B in groups.items()
            if counted_B.any()
        }
        return {**alignment(judge, pictures_BCHW, embeddings_BD), **apart}

    painted = {name: paint(runtime, captions, settings) for name, runtime in runtimes.items()}
    document: dict[str, Any] = {
        "pictures": len(held_out),
        "features": NAME,
        "feature_width": FEATURES,
        "judge_on_real_pictures": named(real_BCHW),
    }
    for name, pictures in painted.items():
        generated_BCHW = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
        near = distances(judge, real_BCHW, generated_BCHW, settings.seed)
        document[name] = near | named(generated_BCHW)
    return document, painted


def base_concepts() -> set[str]:
    """Concepts that the shipped base has seen, in whatever style."""
    ids = json.loads((BASE / "training_ids.json").read_bytes())
    return {concept(identity.partition("-")[2]) for identity in ids}


def sheet(pictures: Pictures, captions: Sequence[str]) -> Image.Image:
    """All pictures in rows, enlarged without smoothing, each above the start of its caption."""
    rows = -(-len(pictures) // SHEET_COLUMNS)
    page = Image.new("RGB", (SHEET_COLUMNS * CELL, rows * (CELL + CAPTION)), "white")
    draw = ImageDraw.Draw(page)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = number % SHEET_COLUMNS * CELL, number // SHEET_COLUMNS * (CELL + CAPTION)
        page.paste(Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
        words = textwrap.wrap(caption.partition(":")[0], 20)[:3]
        draw.multiline_text((left + 4, top + CELL + 2), "\n".join(words), fill="black", spacing=1)
    return page


def load_runtime(folder: Path, encoder: TextEncoder) -> EulerSampler:
    network = denoiser.load(folder)
    return EulerSampler(PyTorchBackend(network, encoder), network.shape.size)


def main() -> None:
    """Write the metrics and the sheet."""
    params = config.load()
    settings, shape = params.evaluate.image, params.train.image.model
    # Skin tones of one drawing would count one concept six times.
    test = [s for s in sample.read(SPLIT / "test.parquet") if not s.meta.get("tone")]
    held_out = random.Random(settings.seed).sample(test, min(settings.samples, len(test)))  # noqa: S311 - a sample
    if len(held_out) < 2:
        raise StageError(f"{SPLIT}: {len(held_out)} held-out pictures; at least 2 are needed to measure a distance")
    encoder = TextEncoder(tokens=shape.text_tokens)
    runtimes: dict[str, ImageRuntime] = {
        "before": load_runtime(BASE, encoder),
        "after": load_runtime(CHECKPOINT, encoder),
    }
    document, painted = evaluate(runtimes, judges.load(), encoder, held_out, base_concepts(), settings, shape.size)
    SHEET.parent.mkdir(parents=True, exist_ok=True)
    shown = painted["after"][: settings.sheet]
    sheet(shown, [s.text for s in held_out[: settings.sheet]]).save(SHEET)
    write_text(METRICS, canonical(document))
    for name in runtimes:
        row = document[name]
        near = f"KID {row['kid']:.4f} ± {row['kid_deviation']:.4f}"
        print(f"{name}: {near}, alignment {row['alignment']:.3f}, named {row['top1']:.0%}")


if __name__ == "__main__":
    run(main)
