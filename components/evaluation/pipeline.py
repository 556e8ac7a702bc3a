"""Evaluation of a brought pipeline: pictures of seen and held-out captions, before and after fine-tuning.

The shipped judge has learnt emoji and says nothing here. What does need no model: the held-out loss before and after,
from training, and how near each picture is to a training picture. Where `evaluate.image.encoder` names a CLIP or SigLIP
model, it gives alignment (the cosine of picture and caption), beside that of real pictures with their own and with
another's caption and of the nearest training picture, and features for KID. The document says what was not measured.
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

from components.artifact import canonical, file_digest, write_text
from components.config import Params
from components.data import sample
from components.data.picture import load
from components.data.sample import Sample
from components.evaluation.distances import LEAST, inception_features, inception_scores, kid
from components.evaluation.image import METRICS, Painting, chosen, nearest, paint, write_rows, write_sheets
from components.models import inception as inceptions
from components.models.picture_encoder import PictureEncoder
from components.paths import IMAGE_BASE_EXPORT as BASE_EXPORT
from components.paths import IMAGE_EXPORT as EXPORT
from components.paths import IMAGE_METRICS
from components.paths import IMAGE_SPLIT as SPLIT
from components.runtimes.image import load_image
from components.stage import StageError

TRAINING = IMAGE_METRICS / "train.json"
CELL = 256  # pixels of a picture on a sheet
SMALL = 64  # pixels of a side in which pictures are compared with those of training
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


def judged(encoder: PictureEncoder, pictures_BCHW: Tensor, held_out: list[Sample], real_BF: Tensor) -> dict[str, float]:
    """Alignment with the held-out captions, and KID to their real pictures with its error."""
    features_BF = encoder.pictures(pictures_BCHW)
    captions_BF = encoder.captions([s.text for s in held_out])
    value, error = kid(real_BF, features_BF, concepts(held_out))
    alignment = float((features_BF * captions_BF).sum(1).mean())
    return {"alignment": alignment, "kid": value, "kid_standard_error": error}


def baselines(
    encoder: PictureEncoder, held_out: list[Sample], real_BCHW: Tensor, training: list[Sample], size: int
) -> dict[str, Any]:
    """What pictures that nobody painted score: real ones, real ones of other captions, and training's nearest ones."""
    captions_BF, real_BF = encoder.captions([s.text for s in held_out]), encoder.pictures(real_BCHW)
    of_training_TF = encoder.captions([s.text for s in training])
    closest = (captions_BF @ of_training_TF.T).argmax(1).tolist()
    nearest_BCHW = squares([training[index] for index in closest], size)
    return {
        "real_pictures": {"alignment": float((real_BF * captions_BF).sum(1).mean())},
        "shuffled_real_pictures": {"alignment": float((real_BF.roll(1, 0) * captions_BF).sum(1).mean())},
        "nearest_training_picture": judged(encoder, nearest_BCHW, held_out, real_BF),
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
    shown = settings.sheet
    encoder = PictureEncoder(settings.encoder) if settings.encoder else None  # refused before hours of painting
    network = inceptions.load(settings.inception) if settings.inception else None
    measured = settings.samples if encoder or network else min(settings.samples, shown)  # none else need many
    seen, held_out = (chosen(side, measured, settings.seed) for side in ("train", "test"))
    seen = seen[:shown]
    if encoder and (count := len(set(concepts(held_out)))) < LEAST:
        raise StageError(f"{SPLIT}: held-out pictures of {count} concepts; KID needs {LEAST}: add some")
    loss = held_out_loss()
    document: dict[str, Any] = {"pictures": len(held_out), "held_out_loss": loss}
    painted: dict[str, Tensor] = {}
    painted["before"], _ = painted_by(BASE_EXPORT, held_out, [], painting)
    painted["after"], seen_BCHW = painted_by(EXPORT, held_out, seen, painting)
    training = sample.read(SPLIT / "train.parquet")
    training_BCHW = squares(training, SMALL)
    size = painted["after"].shape[-1]
    real_BCHW = squares(held_out, size)
    for name, pictures_BCHW in painted.items():
        document[name] = {"loss": loss[name]}
        rmse_B, _ = nearest(small(pictures_BCHW), training_BCHW)
        document[name]["nearest_training_rmse"] = float(rmse_B.median())
        if encoder:
            document[name] |= judged(encoder, pictures_BCHW, held_out, encoder.pictures(real_BCHW))
        if network:
            real_BD, features_BD = (inception_features(network, p) for p in (real_BCHW, pictures_BCHW))
            document[name] |= inception_scores(network, real_BD, features_BD, settings.seed)
    document["real_pictures"] = {}
    if encoder:
        document |= {"features": encoder.name, **baselines(encoder, held_out, real_BCHW, training, size)}
    else:
        document["not_measured"] = [UNMEASURED]
    if network and settings.inception:
        document["inception_weights"] = file_digest(settings.inception)
    of_real, _ = nearest(small(real_BCHW), training_BCHW)
    document["real_pictures"]["nearest_training_rmse"] = float(of_real.median())
    write_text(METRICS, canonical(document))
    closest = write_rows(small(painted["after"]), held_out, (training, training_BCHW))
    near = [training[index] for index in closest[:shown]]
    pages = {"seen": (seen_BCHW, seen), "nearest": (squares(near, size), near)}
    pages |= {"held_out": (painted["after"][:shown], held_out[:shown])}
    pages |= {"before": (painted["before"][:shown], held_out[:shown])}
    write_sheets(pages, CELL)
    _tell(document)


def _tell(document: dict[str, Any]) -> None:
    for name in ("before", "after"):
        row = document[name]
        words = f"{name}: held-out loss {row['loss']:.4f}, nearest training picture {row['nearest_training_rmse']:.3f}"
        if "alignment" in row:
            words += f", alignment {row['alignment']:.3f}, KID {row['kid']:.4f} ± {row['kid_standard_error']:.4f}"
        print(words)
    for words in document.get("not_measured", ()):
        print(f"not measured: {words}")
