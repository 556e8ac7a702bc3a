"""Evaluation of a brought pipeline: pictures of seen and held-out captions, before and after fine-tuning.

The shipped judge has learnt emoji and says nothing here. What does need no model: the held-out loss before and after,
from training, and how near each picture is to a training picture. What else there is the user names
(`components.evaluation.measures`): each figure stands beside that of real pictures, and of training's picture of the
nearest caption. The document says what was not measured.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from components.artifact import canonical, write_text
from components.config import Params
from components.data import sample
from components.data.picture import load
from components.data.sample import Sample
from components.evaluation.distances import LEAST
from components.evaluation.image import METRICS, Painting, chosen, nearest, paint, write_rows, write_sheets
from components.evaluation.measures import Measures
from components.paths import IMAGE_BASE_EXPORT as BASE_EXPORT
from components.paths import IMAGE_EXPORT as EXPORT
from components.paths import IMAGE_METRICS
from components.paths import IMAGE_SPLIT as SPLIT
from components.runtimes.image import load_image
from components.stage import StageError

TRAINING = IMAGE_METRICS / "train.json"
CELL = 256  # pixels of a picture on a sheet
SMALL = 64  # pixels of a side in which pictures are compared with those of training
TOLD = ("before", "after", "real_pictures", "nearest_training_picture", "training_pictures")
WORDS = {
    "loss": "held-out loss",
    "alignment": "alignment",
    "alignment_probability": "its probability",
    "aesthetics": "aesthetics",
    "kid": "KID",
    "fid": "FID",
    "inception_kid": "Inception's KID",
    "inception_fid": "Inception's FID",
    "inception_score": "Inception score",
    "nearest_training_rmse": "nearest training picture",
}
UNMEASURED = (
    "whether a picture shows what its caption says, and how far pictures are from real ones (KID): name the folder of "
    "a CLIP or SigLIP model as evaluate.image.encoder"
)


def concepts(samples: list[Sample]) -> list[str]:
    """What each sample shows, as the split groups them."""
    return [str(s.meta.get("split_group") or s.meta.get("concept") or s.text) for s in samples]


def small(pictures_BCHW: Tensor) -> Tensor:
    """uint8 pictures of `SMALL` pixels."""
    scaled = [
        functional.interpolate(one_1CHW.float(), (SMALL, SMALL), mode="bicubic", antialias=True)
        for one_1CHW in pictures_BCHW.split(1)
    ]
    return torch.cat(scaled).clamp(0, 255).round().to(torch.uint8)


def squares(samples: list[Sample], size: int) -> Tensor:
    """Real pictures as uint8 BCHW, each the square in its middle: the white around a padded one is nobody's picture."""
    cropped = [np.asarray(ImageOps.fit(load(s.image or b""), (size, size), Image.Resampling.LANCZOS)) for s in samples]
    return torch.from_numpy(np.stack(cropped)).permute(0, 3, 1, 2).contiguous()


def painted_by(folder: Path, held_out: list[Sample], seen: list[Sample], painting: Painting) -> tuple[Tensor, Tensor]:
    """What an export paints of the captions of both; says after the first picture how long that takes.

    Its engine is out of memory again when this returns.
    """
    runtime, began = load_image(folder), time.monotonic()
    first = paint(runtime, [held_out[0].text], painting)
    seconds, count = time.monotonic() - began, len(held_out) + len(seen)
    print(
        f"{folder}: a picture of {painting.steps} steps took {seconds:.1f} s; {count} will take about "
        f"{seconds * count / 60:.0f} minutes",
        flush=True,
    )
    parts = [first]
    if len(held_out) > 1:
        parts.append(paint(runtime, [s.text for s in held_out[1:]], replace(painting, seed=painting.seed + 1)))
    of_seen = paint(runtime, [s.text for s in seen], painting) if seen else first[:0]
    return torch.cat(parts), of_seen


def measured(
    measures: Measures, painted: dict[str, Tensor], held_out: list[Sample], training: list[Sample]
) -> dict[str, dict[str, Any]]:
    """Rows of figures: of what was painted, and of pictures that nobody painted.

    These are the real ones, real ones of other captions, and training's picture of the nearest caption; without an
    encoder, which finds that, training's pictures in their order.
    """
    size, shown = painted["after"].shape[-1], concepts(held_out)
    captions_BF = measures.captions([s.text for s in held_out])
    real = measures.features(squares(held_out, size))
    rows: dict[str, dict[str, Any]] = {"real_pictures": measures.alone(real, captions_BF)}
    if captions_BF is not None and real.encoded is not None:
        rows["shuffled_real_pictures"] = dict(measures.alignment(real.encoded.roll(1, 0), captions_BF))
        name, closest = "nearest_training_picture", measures.nearest(captions_BF, [s.text for s in training])
    else:
        name, closest = "training_pictures", [number % len(training) for number in range(len(held_out))]
    given = {**painted, name: squares([training[index] for index in closest], size)}
    return rows | {
        name: dict(measures.beside(real, measures.features(pictures_BCHW), captions_BF, shown))
        for name, pictures_BCHW in given.items()
    }


def held_out_loss() -> dict[str, float]:
    """The denoising loss on validation pictures before and after training, as training found it."""
    try:
        document = json.loads(TRAINING.read_bytes())
        return {"before": float(document["validation_loss_before"]), "after": float(document["validation_loss"])}
    except (OSError, ValueError, KeyError) as error:
        raise StageError(f"{TRAINING}: no readable losses: {error!r}; run train_image again") from error


def evaluate(params: Params) -> None:
    """Write the metrics, the sheets and a row for each held-out picture."""
    settings, painting = params.evaluate.image, Painting.served(params)
    measures = Measures(settings)  # refused before hours of painting
    count = settings.samples if measures else min(settings.samples, settings.sheet)  # nothing else needs many
    seen, held_out = (chosen(side, count, settings.seed) for side in ("train", "test"))
    seen = seen[: settings.sheet]
    if measures and (differ := len(set(concepts(held_out)))) < LEAST:
        raise StageError(f"{SPLIT}: held-out pictures of {differ} concepts; KID needs {LEAST}: add some")
    loss = held_out_loss()
    painted: dict[str, Tensor] = {}
    painted["before"], _ = painted_by(BASE_EXPORT, held_out, [], painting)
    painted["after"], seen_BCHW = painted_by(EXPORT, held_out, seen, painting)
    training = sample.read(SPLIT / "train.parquet")
    training_BCHW = squares(training, SMALL)
    rows = measured(measures, painted, held_out, training) if measures else {"before": {}, "after": {}}
    rows = {**rows, "real_pictures": rows.get("real_pictures", {})}
    for name, pictures_BCHW in {**painted, "real_pictures": squares(held_out, SMALL)}.items():
        rmse_B, _ = nearest(small(pictures_BCHW), training_BCHW)
        rows[name] |= {"nearest_training_rmse": float(rmse_B.median())} | ({"loss": loss[name]} if name in loss else {})
    document: dict[str, Any] = {"pictures": len(held_out), "held_out_loss": loss, **measures.names, **rows}
    if measures.encoder is None:
        document["not_measured"] = [UNMEASURED]
    write_text(METRICS, canonical(document))
    write_pages(painted, held_out, (seen_BCHW, seen), (training, training_BCHW), settings.sheet)
    _tell(document)


def write_pages(
    painted: dict[str, Tensor],
    held_out: list[Sample],
    seen: tuple[Tensor, list[Sample]],
    training: tuple[list[Sample], Tensor],
    shown: int,
) -> None:
    """The rows, and sheets of `shown` pictures each."""
    closest = write_rows(small(painted["after"]), held_out, training)
    near = [training[0][index] for index in closest[:shown]]
    pages = {"seen": seen, "nearest": (squares(near, painted["after"].shape[-1]), near)}
    pages |= {"held_out": (painted["after"][:shown], held_out[:shown])}
    pages |= {"before": (painted["before"][:shown], held_out[:shown])}
    write_sheets(pages, CELL)


def _tell(document: dict[str, Any]) -> None:
    print(f"{document['pictures']} held-out captions; features: {document.get('features', 'none')}")
    for name in TOLD:
        row = document.get(name, {})
        figures = [f"{words} {row[figure]:.4g}" for figure, words in WORDS.items() if figure in row]
        if figures:
            print(f"{name.replace('_', ' ')}: {', '.join(figures)}")
    for words in document.get("not_measured", ()):
        print(f"not measured: {words}")
