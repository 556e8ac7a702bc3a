"""Evaluation of the built-in network: pictures of seen and held-out captions, before and after fine-tuning, judged.

KID and FID (`components.evaluation.distances`) between generated and held-out pictures, on the features of this
project's own judge, which has learnt from other artists' drawings; alignment of picture and name, and how often the
name is the best among all, by the same judge. Seeds are fixed, and the sheet leaves no picture out. FID is biased,
upwards by few pictures and downwards by captions that both sets share: it compares models on equal captions and is
shown with its N; the gate uses KID, which is not biased. Captions of the training side are counted apart from held-out
ones, and of these the concepts that the base has seen in other styles from those it has never seen. Beside them stands
what needs no model (`without_model`). The nearest training picture of each, by root mean square error in pixels, shows
what is a copy. All is painted on the engine that serves, once `verify_image` has found it to paint what PyTorch
paints with the fine-tuned model; the base's export is made alike and not measured itself.
"""

from __future__ import annotations

import json
import random
import textwrap
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from components.artifact import canonical, file_digest, write_csv, write_text
from components.config import Params
from components.data import sample
from components.data.concept import concept
from components.data.pixels import pixels
from components.data.sample import Sample
from components.evaluation.distances import (
    LEAST,
    frechet,
    inception_features,
    inception_scores,
    kid,
    kid_difference,
)
from components.models import inception as inceptions
from components.models import judge as judges
from components.models.judge import FEATURES, LEAST_KNOWN, NAME, Judge, alignment, named
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_BASE as BASE
from components.paths import IMAGE_BASE_EXPORT as BASE_EXPORT
from components.paths import IMAGE_EXPORT as EXPORT
from components.paths import IMAGE_METRICS, SHEETS
from components.paths import IMAGE_SPLIT as SPLIT
from components.runtimes.base import ImageRequest, ImageRuntime
from components.runtimes.image import load_image
from components.stage import StageError

METRICS = IMAGE_METRICS / "evaluate.json"
PICTURES = IMAGE_METRICS / "pictures.csv"
COLUMNS, CELL, WORDS = 8, 128, 44  # of a sheet: pictures per row; pixels of a picture's side and of the words below it
NAMES = 100  # among which seen captions are to be recognised


@dataclass(frozen=True)
class Painting:
    """How many captions are painted: the n-th from seed `seed` + n."""

    steps: int
    guidance: float
    seed: int
    batch_size: int

    @classmethod
    def served(cls, params: Params) -> Painting:
        """As users are served by default, from the evaluation's seed."""
        serving, settings = params.serving, params.evaluate.image
        return cls(serving.image_steps, serving.image_guidance, settings.seed, settings.batch_size)


def paint(runtime: ImageRuntime, captions: Sequence[str], painting: Painting) -> Tensor:
    """A uint8 picture of each caption, BCHW."""
    requests = [
        ImageRequest(caption, painting.seed + number, painting.steps, painting.guidance)
        for number, caption in enumerate(captions)
    ]
    batches = [requests[i : i + painting.batch_size] for i in range(0, len(requests), painting.batch_size)]
    pictures = [picture for batch in batches for picture in runtime.generate(batch)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def distances(judge: Judge, real_BCHW: Tensor, generated_BCHW: Tensor, concepts: Sequence[str]) -> dict[str, float]:
    """KID, its standard error and FID between uint8 pictures; the i-th of both sets shows `concepts[i]`."""
    real_BF, generated_BF = judge(real_BCHW), judge(generated_BCHW)
    value, standard_error = kid(real_BF, generated_BF, concepts)
    return {"kid": value, "kid_standard_error": standard_error, "fid": frechet(real_BF, generated_BF)}


@dataclass(frozen=True)
class Captions:
    """Samples to be painted and recognised: their names' embeddings compete with each other."""

    samples: list[Sample]
    embeddings_BD: Tensor
    real_BCHW: Tensor

    @property
    def texts(self) -> list[str]:
        return [s.text for s in self.samples]

    @property
    def concepts(self) -> list[str]:
        """What each sample shows, as the split groups them: one concept, one caption, or nearly one picture."""
        return [str(s.meta.get("split_group") or s.meta.get("concept") or s.text) for s in self.samples]

    @classmethod
    def of(cls, samples: list[Sample], encoder: TextEncoder, size: int) -> Captions:
        names = [str(s.meta.get("name") or s.text) for s in samples]
        return cls(samples, encoder.embed(names), pixels(samples, size))


def evaluate(
    runtimes: dict[str, ImageRuntime],
    judge: Judge,
    seen: Captions,
    held_out: Captions,
    known: AbstractSet[str],
    painting: Painting,
) -> tuple[dict[str, Any], dict[str, tuple[Tensor, Tensor]]]:
    """The metrics document, and each runtime's pictures of seen and of held-out captions.

    `runtimes` are called `before` and `after`; `known` are the concepts the base has seen.
    """
    known_B = torch.tensor([s.meta.get("concept") in known for s in held_out.samples])
    groups = {"concept_seen_in_other_styles": known_B, "concept_never_seen": ~known_B}

    def recognised(seen_BCHW: Tensor, held_out_BCHW: Tensor) -> dict[str, Any]:
        apart = {
            name: alignment(judge, held_out_BCHW, held_out.embeddings_BD, counted_B)
            | {"pictures": int(counted_B.sum())}
            for name, counted_B in groups.items()
            if counted_B.any()
        }
        apart["seen_captions"] = alignment(judge, seen_BCHW, seen.embeddings_BD) | {"pictures": len(seen_BCHW)}
        return {**alignment(judge, held_out_BCHW, held_out.embeddings_BD), **apart}

    document: dict[str, Any] = {
        "pictures": len(held_out.samples),
        "features": NAME,
        "feature_width": FEATURES,
        "judge_on_real_pictures": recognised(seen.real_BCHW, held_out.real_BCHW),
    }
    painted = {}
    for name, runtime in runtimes.items():
        seen_BCHW, held_out_BCHW = (paint(runtime, c.texts, painting) for c in (seen, held_out))
        document[name] = distances(judge, held_out.real_BCHW, held_out_BCHW, held_out.concepts)
        document[name] |= recognised(seen_BCHW, held_out_BCHW)
        painted[name] = seen_BCHW, held_out_BCHW
    document |= beside_base(judge, seen, held_out, painted["before"], painted["after"])
    return document, painted


def beside_base(
    judge: Judge, seen: Captions, held_out: Captions, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]
) -> dict[str, Any]:
    """What fine-tuning has done to what the base can paint, and to the distance from the held-out pictures.

    `known_to_base`: the share of pictures that the judge names, of the fine-tuned model and of the real ones, among the
    seen and held-out captions of which the base's own picture is named; not said of so few that chance decides.
    """
    sides = (seen, held_out)
    before_B, after_B, real_B = (
        torch.cat([named(judge, pictures, side.embeddings_BD) for pictures, side in zip(painted, sides, strict=True)])
        for painted in (before, after, tuple(side.real_BCHW for side in sides))
    )
    known: dict[str, float] = {"captions": len(before_B), "known": int(before_B.sum())}
    if known["known"] >= LEAST_KNOWN:
        known |= {n: float(b[before_B].float().mean()) for n, b in (("after", after_B), ("real", real_B))}
    change = kid_difference(judge(held_out.real_BCHW), judge(after[1]), judge(before[1]), held_out.concepts)
    return {"known_to_base": known, "kid_over_base": change._asdict()}


def without_model(
    judge: Judge, encoder: TextEncoder, held_out: Captions, training: list[Sample], training_BCHW: Tensor
) -> dict[str, Any]:
    """What pictures that nobody painted score: training's of the nearest caption, and real ones of other captions."""
    cosines_BT = encoder.embed(held_out.texts) @ encoder.embed([s.text for s in training]).T
    nearest_BCHW, shuffled_BCHW = training_BCHW[cosines_BT.argmax(1)], held_out.real_BCHW.roll(1, 0)
    near = distances(judge, held_out.real_BCHW, nearest_BCHW, held_out.concepts)
    return {
        "nearest_training_picture": near | alignment(judge, nearest_BCHW, held_out.embeddings_BD),
        "shuffled_real_pictures": alignment(judge, shuffled_BCHW, held_out.embeddings_BD),
    }


def nearest(pictures_BCHW: Tensor, training_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square error (0 to 1) to each picture's nearest training picture, and which one that is."""
    flat_BD, training_BD = (p.flatten(1).float() / 255 for p in (pictures_BCHW, training_BCHW))
    closest = (torch.cdist(flat_BD, training_BD) / flat_BD.shape[1] ** 0.5).min(1)
    return closest.values, closest.indices


def base_concepts() -> set[str]:
    """Concepts that the shipped base has seen, in whatever style."""
    ids = json.loads((BASE / "training_ids.json").read_bytes())
    return {concept(identity.partition("-")[2]) for identity in ids}


def chosen(side: str, count: int, seed: int) -> list[Sample]:
    """Up to `count` samples of a side; skin tones of one emoji's drawing would count one concept six times."""
    samples = [s for s in sample.read(SPLIT / f"{side}.parquet") if not (s.meta.get("hexcode") and s.meta.get("tone"))]
    return random.Random(seed).sample(samples, min(count, len(samples)))  # noqa: S311 - a sample


def require_concepts(held_out: Captions) -> None:
    """Raise `StageError` where held-out pictures are too few or too much alike for KID and its error."""
    if (count := len(set(held_out.concepts))) < LEAST:
        raise StageError(
            f"{SPLIT}: held-out pictures of {count} concepts; KID needs {LEAST}: add some, or raise split.image.test"
        )


def main(params: Params) -> None:
    """Write the metrics, the sheets and a row per held-out picture."""
    settings, shape = params.evaluate.image, params.train.image.model
    encoder = TextEncoder(tokens=shape.text_tokens)
    samples = {side: chosen(side, settings.samples, settings.seed) for side in ("train", "test")}
    network = inceptions.load(settings.inception) if settings.inception else None  # refused before minutes of painting
    seen = Captions.of(samples["train"][:NAMES], encoder, shape.size)
    held_out = Captions.of(samples["test"], encoder, shape.size)
    require_concepts(held_out)
    runtimes: dict[str, ImageRuntime] = {
        "before": load_image(BASE_EXPORT, "openvino"),
        "after": load_image(EXPORT, "openvino"),
    }
    judge = judges.load()
    document, painted = evaluate(runtimes, judge, seen, held_out, base_concepts(), Painting.served(params))
    if network and settings.inception:
        document["inception_weights"] = file_digest(settings.inception)
        real_BD = inception_features(network, held_out.real_BCHW)
        for name in runtimes:
            generated_BD = inception_features(network, painted[name][1])
            document[name] |= inception_scores(network, real_BD, generated_BD, settings.seed)
    training = sample.read(SPLIT / "train.parquet")
    training_BCHW = pixels(training, shape.size)
    document |= without_model(judge, encoder, held_out, training, training_BCHW)
    for row, pictures_BCHW in (("after", painted["after"][1]), ("judge_on_real_pictures", held_out.real_BCHW)):
        document[row]["nearest_training_rmse"] = float(nearest(pictures_BCHW, training_BCHW)[0].median())
    write(document, painted, seen.samples, held_out, (training, training_BCHW), settings.sheet)
    row = document["nearest_training_picture"]
    print(f"training picture of the nearest caption: alignment {row['alignment']:.3f}, named {row['top1']:.0%}")
    for name in runtimes:
        row = document[name]
        near = f"KID {row['kid']:.4f} ± {row['kid_standard_error']:.4f}"
        named = f"named {row['top1']:.0%} of held-out and {row['seen_captions']['top1']:.0%} of seen captions"
        print(f"{name}: {near}, alignment {row['alignment']:.3f}, {named}")


def write(
    document: dict[str, Any],
    painted: dict[str, tuple[Tensor, Tensor]],
    seen: list[Sample],
    held_out: Captions,
    training: tuple[list[Sample], Tensor],
    shown: int,
) -> None:
    """The metrics, a sheet each of seen captions, held-out ones and their nearest training pictures, and the rows."""
    write_text(METRICS, canonical(document))
    after = painted["after"]
    indices = write_rows(after[1], held_out.samples, training)
    pages = {"seen": (after[0], seen), "held_out": (after[1], held_out.samples)}
    pages["nearest"] = (training[1][indices], [training[0][index] for index in indices])
    write_sheets({name: (pictures[:shown], samples[:shown]) for name, (pictures, samples) in pages.items()})
    rows = {"yours": held_out.real_BCHW, "base": painted["before"][1], "trained": after[1]}
    write_comparison(rows, held_out.samples, shown)


def write_comparison(rows: Mapping[str, Tensor], samples: list[Sample], shown: int) -> None:
    """`beside.png`: for each line of held-out captions a row of each kind of picture."""
    pictures, words = [], []
    for first in range(0, max(shown - shown % COLUMNS, COLUMNS), COLUMNS):
        part = slice(first, first + COLUMNS)
        blank = np.full((COLUMNS - len(samples[part]), *rows["yours"].shape[2:], 3), 255, np.uint8)
        for name, pictures_BCHW in rows.items():
            pictures += [*pictures_BCHW[part].permute(0, 2, 3, 1).numpy(), *blank]
            words += [f"{name} - {s.text}" for s in samples[part]] + [""] * len(blank)
    sheet(pictures, words).save(SHEETS / "beside.png")


def write_rows(pictures_BCHW: Tensor, held_out: list[Sample], training: tuple[list[Sample], Tensor]) -> list[int]:
    """A row for each held-out picture; returns the place of the nearest training picture of each."""
    errors, indices = nearest(pictures_BCHW, training[1])
    nearest_ids = [training[0][index].id for index in indices.tolist()]
    rows = [
        {"id": s.id, "caption": s.text, "nearest_training_id": near, "nearest_training_rmse": f"{error:.4f}"}
        for s, near, error in zip(held_out, nearest_ids, errors.tolist(), strict=True)
    ]
    write_csv(PICTURES, ("id", "caption", "nearest_training_id", "nearest_training_rmse"), rows)
    return [int(index) for index in indices.tolist()]


def write_sheets(pages: Mapping[str, tuple[Tensor, list[Sample]]], cell: int = CELL) -> None:
    """A sheet of each page's pictures, `cell` pixels a side, with their captions."""
    SHEETS.mkdir(parents=True, exist_ok=True)
    for name, (pictures_BCHW, samples) in pages.items():
        shown_BHWC = pictures_BCHW.permute(0, 2, 3, 1).numpy()
        sheet(list(shown_BHWC), [s.text for s in samples], cell).save(SHEETS / f"{name}.png")


def sheet(pictures: Sequence[NDArray[np.uint8]], captions: Sequence[str], cell: int = CELL) -> Image.Image:
    """All pictures in rows, enlarged without smoothing or shrunk (Lanczos), each above the start of its caption."""
    rows = -(-len(pictures) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * cell, rows * (cell + WORDS)), "white")
    draw = ImageDraw.Draw(page)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = number % COLUMNS * cell, number // COLUMNS * (cell + WORDS)
        how = Image.Resampling.LANCZOS if len(picture) > cell else Image.Resampling.NEAREST
        page.paste(Image.fromarray(picture).resize((cell, cell), how), (left, top))
        words = textwrap.wrap(caption.partition(":")[0], 20)[:3]
        draw.multiline_text((left + 4, top + cell + 2), "\n".join(words), fill="black", spacing=1)
    return page
