"""Sampling parameters of both lines, searched with Hyperopt against an offline reward.

`atelier train tune sampling` runs it on the exported models. In a trial the text model writes a prompt for each
validation phrase, the image model paints it, and the judge compares the picture with the name that was meant. Phrases
and seeds are the same in every trial, so that only the parameters differ. The reward is the mean alignment less a price
per step: the judge sees no time, and would take any number of steps for a difference that is noise.

The best of many noisy trials looks better than it is. Winner and present default are therefore compared on the phrases
of the search and again on test phrases, which it never saw. Compare the two differences, not the levels: half of the
test concepts are new to the shipped base, which knows those of the validation side from other artists.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from components import config
from components.artifact import canonical, read_manifest, write_csv, write_text
from components.data.pairs import Pair, read_pairs
from components.evaluation.image import Painting, paint
from components.models import judge as judges
from components.models.brought import BUILT_IN
from components.models.judge import Judge, scaled
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_EXPORT as IMAGE
from components.paths import JUDGE, SAMPLING_METRICS
from components.paths import TEXT_EXPORT as TEXT
from components.paths import TEXT_SPLIT as SPLIT
from components.runtimes.base import ImageRuntime, TextRequest, TextRuntime
from components.runtimes.image import load_image
from components.runtimes.text import load_text
from components.stage import StageError, run
from components.tuning.search import STATE, search
from components.tuning.space import Choice, Space, Uniform
from components.tuning.trials import Search

CURVE, RESULT = SAMPLING_METRICS / "search.csv", SAMPLING_METRICS / "search.json"
# The reward sees one answer per phrase, so no lack of variety: the least temperature still lets two answers differ.
SPACE: Space = {
    "temperature": Uniform(0.2, 1.2),
    "top_p": Uniform(0.5, 1.0),
    "guidance": Uniform(1.0, 6.0),
    "steps": Choice((6, 8, 10, 12, 16, 20)),
}
COLUMNS = ("trial", *sorted(SPACE), "alignment", "reward", "best")
Sampling = Mapping[str, float]  # a value for each name in `SPACE`


@dataclass(frozen=True)
class Chain:
    """From a phrase through both models to the judge; of `painting` seeds and batch size alone count."""

    writer: TextRuntime
    painter: ImageRuntime
    judge: Judge
    encoder: TextEncoder
    painting: Painting
    max_new_tokens: int

    def alignments(self, pairs: Sequence[Pair], sampling: Sampling) -> NDArray[np.float32]:
        """For each phrase the cosine of its picture with the intended name, less the mean one with the others' names.

        `components.models.judge.alignment` is its mean. The n-th phrase is written and painted from the n-th seed.
        """
        requests = [
            TextRequest(
                pair.messages,
                self.max_new_tokens,
                sampling["temperature"],
                sampling["top_p"],
                self.painting.seed + number,
            )
            for number, pair in enumerate(pairs)
        ]
        prompts = [result.text for result in self.writer.generate(requests)]
        painting = replace(self.painting, guidance=sampling["guidance"], steps=int(sampling["steps"]))
        pictures_BCHW = paint(self.painter, prompts, painting)
        names_BD = self.encoder.embed([pair.concept for pair in pairs])
        cosines_BB = self.judge.picture(scaled(pictures_BCHW)) @ self.judge.text(names_BD).T
        own_B = cosines_BB.diagonal()
        return np.asarray(own_B - (cosines_BB.sum(1) - own_B) / (len(pairs) - 1))


def phrases(side: str, count: int, seed: int) -> list[Pair]:
    """Up to `count` phrases of a side, each of another concept; raises `StageError` where there are not two."""
    pairs = [pair for pair in read_pairs(SPLIT / f"{side}.parquet") if pair.concept]
    if not pairs:
        raise StageError(
            f"{SPLIT}: no pair on the {side} side has a concept; what is searched here is how well the pictures of "
            "what the text line writes show the concept that was meant"
        )
    random.Random(seed).shuffle(pairs)  # noqa: S311 - a sample
    chosen = list({pair.concept: pair for pair in pairs}.values())[:count]
    if len(chosen) < 2:
        raise StageError(f"{SPLIT}: one concept on the {side} side, alignment compares two; raise split.text.{side}")
    return chosen


def compare(chain: Chain, pairs: Sequence[Pair], winner: Sampling, default: Sampling, seed: int) -> dict[str, Any]:
    """Mean alignments of both and their difference, with its 95 % interval over phrases (a paired bootstrap)."""
    winner_B, default_B = (chain.alignments(pairs, sampling) for sampling in (winner, default))
    difference_B = winner_B - default_B  # resampling these resamples pairs
    spread = bootstrap((difference_B,), np.mean, method="percentile", rng=np.random.default_rng(seed))
    means = {"winner": winner_B, "default": default_B, "difference": difference_B}
    interval = [float(end) for end in spread.confidence_interval]
    return {"phrases": len(pairs), **{name: float(v.mean()) for name, v in means.items()}, "interval": interval}


def curve(result: Search, step_cost: float) -> list[dict[str, float]]:
    """A row per trial, with the best reward so far."""
    rewards = [-trial.loss for trial in result.trials if trial.loss is not None]  # all: no `TrialError` here
    rows = []
    for trial, reward, best in zip(result.trials, rewards, accumulate(rewards, max), strict=True):
        row = {**trial.parameters, "alignment": reward + step_cost * trial.parameters["steps"]}
        row |= {"reward": reward, "best": best}
        rows.append({"trial": trial.number, **{name: round(value, 4) for name, value in row.items()}})
    return rows


def state_name(params: config.Params) -> str:
    """A name for the search's unfinished state: other models, data, settings or space, another file."""
    identity: dict[str, Any] = {"settings": params.tune_sampling.model_dump(exclude={"trials"}), "space": repr(SPACE)}
    identity["inputs"] = [read_manifest(folder).digest for folder in (SPLIT, TEXT, IMAGE, JUDGE)]
    return f"sampling-{hashlib.sha256(canonical(identity).encode()).hexdigest()[:16]}.json"


def main() -> None:
    """Search as `params.yaml` says; write the curve, and the trials with both comparisons."""
    params = config.load()
    if params.base.image.model != BUILT_IN["image"]:
        raise StageError("the search is judged by the shipped judge, which knows the built-in network's pictures alone")
    settings, serving = params.tune_sampling, params.serving
    default = {"temperature": serving.text_temperature, "top_p": serving.text_top_p}
    default |= {"guidance": serving.image_guidance, "steps": serving.image_steps}
    sides = {side: phrases(side, settings.phrases, settings.seed) for side in ("validation", "test")}
    painting = replace(Painting.served(params), seed=settings.seed)
    state = STATE / state_name(params)
    with closing(load_text(TEXT)) as writer:
        painter = load_image(IMAGE, "openvino")
        chain = Chain(writer, painter, judges.load(), TextEncoder(), painting, serving.text_max_new_tokens)

        def loss(sampling: Sampling) -> float:
            aligned = float(chain.alignments(sides["validation"], sampling).mean())
            return settings.step_cost * sampling["steps"] - aligned

        measured, trials, seed = "step cost less alignment", settings.trials, settings.seed
        result = search(SPACE, loss, line="sampling", measured=measured, trials=trials, seed=seed, state=state)
        winner = result.best.parameters
        compared = {side: compare(chain, pairs, winner, default, settings.seed) for side, pairs in sides.items()}
    write_csv(CURVE, COLUMNS, curve(result, settings.step_cost))
    document = result.model_dump(mode="json")
    write_text(RESULT, canonical({**document, "winner": winner, "default": default, **compared}) + "\n")
    state.unlink()
    print(f"{RESULT}: {winner}")
    for side, row in compared.items():
        print(f"{side}: alignment {row['default']:.3f} → {row['winner']:.3f}, difference {row['difference']:+.3f}")


if __name__ == "__main__":
    run(main)
