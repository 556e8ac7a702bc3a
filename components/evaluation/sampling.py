"""Steps and guidance against quality: where the defaults of `serving` come from.

Run by hand, `python -m components.evaluation.sampling`, on the exported model and captions it has seen, so that the
judge can name what is there. Writes metrics/image/steps.csv and metrics/image/guidance.csv for `dvc plots show`.
`agreement` is the PSNR in dB to the picture that many Euler steps lead to. `diversity` is the mean distance, in the
judge's features, between pictures of one caption from different seeds. KID is taken to the real pictures of the same
captions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import get_args

import torch
from torch import Tensor

from components import config
from components.artifact import verify, write_csv
from components.data.sample import Sample
from components.evaluation.distances import kid
from components.evaluation.image import NAMES, Captions, Painting, chosen, paint
from components.models import judge as judges
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_EXPORT as EXPORT
from components.paths import IMAGE_METRICS
from components.runtimes.image import Sampler, Solver, load_sampler
from components.stage import run

STEPS_CSV, GUIDANCE_CSV = IMAGE_METRICS / "steps.csv", IMAGE_METRICS / "guidance.csv"
JUDGED = ("alignment", "named", "kid")
STEPS_COLUMNS = ("solver", "steps", "agreement", *JUDGED, "seconds")
GUIDANCE_COLUMNS = ("guidance", "diversity", *JUDGED)
STEPS = (4, 6, 8, 10, 12, 16, 20)
MANY_STEPS = 100
GUIDANCE = (1.0, 1.5, 2.0, 3.0, 4.5, 6.0)
REPEATS = 9  # of one picture through PyTorch
SEEDS = 4  # pictures per caption of which the diversity is taken

Row = dict[str, float | int | str]


def by_steps(runtime: Sampler, judge: Judge, captions: Captions, painting: Painting) -> list[Row]:
    """A row per solver and number of steps."""
    reference_BCHW = paint_with(runtime, "euler", captions.samples, replace(painting, steps=MANY_STEPS))
    rows: list[Row] = []
    for solver in get_args(Solver):
        for steps in STEPS:
            started = time.perf_counter()
            painted_BCHW = paint_with(runtime, solver, captions.samples, replace(painting, steps=steps))
            seconds = (time.perf_counter() - started) / len(painted_BCHW)
            row: Row = {"solver": solver, "steps": steps, "agreement": agreement(painted_BCHW, reference_BCHW)}
            rows.append(row | judged(judge, painted_BCHW, captions) | {"seconds": round(seconds, 4)})
            print(rows[-1], flush=True)
    return rows


def by_guidance(runtime: Sampler, judge: Judge, captions: Captions, painting: Painting) -> list[Row]:
    """A row per guidance scale."""
    rows: list[Row] = []
    for guidance in GUIDANCE:
        seeds_SBCHW = [
            paint(runtime, captions.texts, replace(painting, guidance=guidance, seed=1000 * number))
            for number in range(SEEDS)
        ]
        features_SBF = torch.stack([judge(painted_BCHW) for painted_BCHW in seeds_SBCHW])
        apart = torch.stack([torch.pdist(features_SF).mean() for features_SF in features_SBF.unbind(1)]).mean()
        row: Row = {"guidance": guidance, "diversity": round(float(apart), 4)}
        rows.append(row | judged(judge, seeds_SBCHW[0], captions))
        print(rows[-1], flush=True)
    return rows


def paint_with(runtime: Sampler, solver: Solver, samples: Sequence[Sample], painting: Painting) -> Tensor:
    return paint(Sampler(runtime.backend, runtime.size, solver, runtime.style), [s.text for s in samples], painting)


def agreement(pictures_BCHW: Tensor, reference_BCHW: Tensor) -> float:
    """Median PSNR in dB; pictures without any difference count as 60 dB."""
    errors_B = (pictures_BCHW.float() - reference_BCHW.float()).square().flatten(1).mean(1)
    return round(float((10 * torch.log10(255**2 / errors_B.clamp_min(255**2 / 1e6))).median()), 2)


def judged(judge: Judge, painted_BCHW: Tensor, captions: Captions) -> Row:
    """Alignment, recognition and KID against the real pictures of the same captions."""
    named = alignment(judge, painted_BCHW, captions.embeddings_BD)
    near = kid(judge(captions.real_BCHW), judge(painted_BCHW), captions.concepts).value
    return {"alignment": round(named["alignment"], 4), "named": round(named["top1"], 4), "kid": round(near, 5)}


def seconds_per_picture(runtime: Sampler, caption: str, painting: Painting) -> float:
    """Median seconds of one picture at the default setting, after one that does not count."""
    seconds = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        paint(runtime, [caption], painting)
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])


def main() -> None:
    """Write both tables."""
    params = config.load()
    painting, shape = Painting.served(params), params.train.image.model
    encoder = TextEncoder(tokens=shape.text_tokens)
    captions = Captions.of(chosen("train", NAMES, painting.seed), encoder, shape.size)
    verify(EXPORT)
    runtime, judge = load_sampler(EXPORT, "openvino"), judges.load()
    reference = load_sampler(EXPORT, "pytorch")
    print(f"one picture through PyTorch: {seconds_per_picture(reference, captions.texts[0], painting):.3f} s")
    write_csv(STEPS_CSV, STEPS_COLUMNS, by_steps(runtime, judge, captions, painting))
    write_csv(GUIDANCE_CSV, GUIDANCE_COLUMNS, by_guidance(runtime, judge, captions, painting))


if __name__ == "__main__":
    run(main)
