"""How good a base is: its pictures of seen, half known and unseen captions, named by the judge. Run by hand, seldom.

`python -m infra.base.evaluate` measures the shipped base, `--model` another one, on data/image/styles, which
`infra.base.emoji_sets` writes and which stays OpenMoji in colour whatever the image line learns from. Every
caption is asked with OpenMoji's style and without one; a picture is named where its own name is the judge's best of
100. The real drawings' row is the judge's ceiling. Intervals are of 95 %: exact binomial ones (Clopper and Pearson
1934), and for KID 1.96 of its standard errors to either side (`components.evaluation.distances`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor

from components import config
from components.artifact import canonical, verify, write_text
from components.data import openmoji, sample
from components.data.sample import Sample
from components.evaluation import distances as kids
from components.evaluation.image import NAMES, Captions, Painting, paint, sheet
from components.models import denoiser
from components.models import judge as judges
from components.models.judge import Judge, alignment
from components.models.text_encoder import TextEncoder
from components.paths import IMAGE_BASE as BASE
from components.paths import IMAGE_METRICS
from components.runtimes.base import ImageRuntime
from components.runtimes.image import Sampler
from components.runtimes.pytorch import PyTorchBackend
from components.stage import StageError, run
from infra.base import emoji_sets

METRICS = IMAGE_METRICS / "base.json"
HELD_OUT = ("combinations", "unseen")
TWO_SIDED_95 = 1.96  # standard errors

Painted = dict[str, Tensor]  # uint8 BCHW by group


@dataclass(frozen=True)
class Group:
    """`count` captions to be painted, then as many more as make `NAMES`: their names only compete."""

    captions: Captions
    count: int

    @property
    def texts(self) -> list[str]:
        return self.captions.texts[: self.count]

    @property
    def concepts(self) -> list[str]:
        return self.captions.concepts[: self.count]

    @property
    def real(self) -> Tensor:
        """uint8 BCHW."""
        return self.captions.real_BCHW[: self.count]


def groups(data: Path, trained_on: AbstractSet[str], encoder: TextEncoder, size: int, seed: int) -> dict[str, Group]:
    """Seen captions, held-out combinations and unseen concepts; `trained_on` are the ids that the base has seen.

    Raises `StageError` where these are not what they are called.
    """
    own = [s for s in sample.read(data / "train.parquet") if s.meta["style"] == emoji_sets.OWN_STYLE]
    seen = random.Random(seed).sample(own, min(NAMES, len(own)))  # noqa: S311 - a sample
    held_out = sample.read(data / "held_out.parquet")
    if wrong := [s.id for s in held_out if s.id in trained_on] + [s.id for s in seen if s.id not in trained_on]:
        raise StageError(f"{data}: {wrong[:3]} are on another side than in the base's training_ids.json; make it again")
    sides = {name: [s for s in held_out if s.meta["unseen"] == (name == "unseen")] for name in HELD_OUT}
    return {name: group(samples, seen, encoder, size) for name, samples in ({"seen": seen} | sides).items()}


def group(samples: list[Sample], others: list[Sample], encoder: TextEncoder, size: int) -> Group:
    """`samples` to be painted, filled up with `others`."""
    return Group(Captions.of((samples + others)[:NAMES], encoder, size), min(len(samples), NAMES))


def paint_all(runtime: ImageRuntime, by_name: dict[str, Group], painting: Painting) -> dict[str, Painted]:
    """Every group's pictures: the real ones, those asked in OpenMoji's style, and those asked without a style."""
    styled = {name: [openmoji.styled(emoji_sets.OWN_STYLE, text) for text in g.texts] for name, g in by_name.items()}
    return {
        "real": {name: g.real for name, g in by_name.items()},
        "openmoji_style": {name: paint(runtime, texts, painting) for name, texts in styled.items()},
        "no_style": {name: paint(runtime, g.texts, painting) for name, g in by_name.items()},
    }


def named(judge: Judge, pictures_BCHW: Tensor, among: Group) -> dict[str, float | int]:
    """The share of a group's pictures whose own name is the best, with its interval."""
    counted_B = torch.arange(len(among.captions.samples)) < among.count
    filled_BCHW = torch.cat([pictures_BCHW, among.captions.real_BCHW[among.count :]])
    share = alignment(judge, filled_BCHW, among.captions.embeddings_BD, counted_B)["top1"]
    low, high = proportion_confint(round(share * among.count), among.count, method="beta")
    return {"named": share, "low": float(low), "high": float(high), "pictures": among.count}


def kid(judge: Judge, generated: Painted, by_name: dict[str, Group]) -> dict[str, float | int]:
    """KID of all held-out captions' pictures to the real drawings of the same captions."""
    held_out = [by_name[name] for name in HELD_OUT]
    real_BCHW, generated_BCHW = torch.cat([g.real for g in held_out]), torch.cat([generated[name] for name in HELD_OUT])
    concepts = [concept for g in held_out for concept in g.concepts]
    middle, standard_error = kids.kid(judge(real_BCHW), judge(generated_BCHW), concepts)
    half = TWO_SIDED_95 * standard_error
    return {"kid": middle, "low": middle - half, "high": middle + half, "pictures": len(real_BCHW)}


def measure(judge: Judge, painted: dict[str, Painted], by_name: dict[str, Group]) -> dict[str, Any]:
    """A row per way of asking, by group; KID for generated pictures alone."""
    rows: dict[str, Any] = {}
    for style, pictures in painted.items():
        rows[style] = {name: named(judge, pictures[name], g) for name, g in by_name.items()}
        if style != "real":
            rows[style]["kid"] = kid(judge, pictures, by_name)
    return rows


def table(rows: dict[str, Any]) -> str:
    """The rows for people: shares in per cent, intervals in brackets, how many pictures after "of"."""
    lines = []
    for style, row in rows.items():
        cells = [
            f"{name} {c['named']:.0%} [{c['low']:.0%}, {c['high']:.0%}] of {c['pictures']}"
            for name, c in row.items()
            if name != "kid"
        ]
        if c := row.get("kid"):
            cells.append(f"KID {c['kid']:.3f} [{c['low']:.3f}, {c['high']:.3f}] of {c['pictures']}")
        lines.append(f"{style}: " + "; ".join(cells))
    return "\n".join(lines)


def write_sheets(folder: Path, painted: dict[str, Painted], by_name: dict[str, Group], shown: int) -> None:
    """`sheet.png`: the first seen captions, no style; `held_out.png`: all held-out combinations in OpenMoji's style."""
    pages = {
        "sheet": (painted["no_style"]["seen"][:shown], by_name["seen"].texts[:shown]),
        "held_out": (painted["openmoji_style"]["combinations"], by_name["combinations"].texts),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (pictures_BCHW, texts) in pages.items():
        sheet(list(pictures_BCHW.permute(0, 2, 3, 1).numpy()), texts).save(folder / f"{name}.png")


def main(
    model: Annotated[Path, typer.Option(help="The base's folder.")] = BASE,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = METRICS,
    sheets: Annotated[Path | None, typer.Option(help="Where sheet.png and held_out.png go, if anywhere.")] = None,
) -> None:
    """Paint, measure, write the figures to `out` and print them."""
    params = config.load()
    settings, shape, painting = params.evaluate.image, params.train.image.model, Painting.served(params)
    base = verify(model)
    data = verify(emoji_sets.STYLES)
    trained_on = set(json.loads((model / "training_ids.json").read_bytes()))
    encoder, judge = TextEncoder(tokens=shape.text_tokens), judges.load()
    by_name = groups(emoji_sets.STYLES, trained_on, encoder, shape.size, settings.seed)
    network = denoiser.load(model)
    painted = paint_all(Sampler(PyTorchBackend(network, encoder), network.shape.size), by_name, painting)
    rows = measure(judge, painted, by_name)
    painted_with = {"steps": painting.steps, "guidance": painting.guidance, "seed": painting.seed}
    write_text(
        out, canonical(rows | painted_with | {"base": base.digest, "data": data.digest, "features": judges.NAME})
    )
    if sheets:
        write_sheets(sheets, painted, by_name, settings.sheet)
    print(table(rows))


if __name__ == "__main__":
    run(main)
