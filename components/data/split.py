"""Stage `split`: `data/<line>/clean/` → train, validation and test, near-identical samples always on one side.

Samples of one concept, of nearly one text or of nearly one picture form a group. A group falls on the side of the
lowest draw among its concepts (`components.data.concept`), so a concept that is held out by its own draw is held out in
every line, whatever it is similar to there. The manifest's digest is the version of the data.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components import config
from components.artifact import seal, staged
from components.data.concept import Side, draw
from components.data.duplicates import groups, same_key, similar_pictures, similar_texts
from components.data.filters import normalise
from components.data.picture import decode
from components.data.sample import SAMPLES, SOURCES, Sample, iterate, write
from components.stage import StageError, run

SIDES: tuple[Side, ...] = ("train", "validation", "test")
_THUMBNAIL = 16
# KID compares test pictures of different groups and its error leaves out one group at a time (`components.evaluation.
# kid`): below three there is no error at all, and the gate would take a guess for a certainty.
_FEWEST_TESTS: dict[str, int] = {"text": 1, "image": 4}


def main(line: config.Line) -> None:
    """Assign every clean sample of `line` to a side and seal the result as a data version."""
    root = Path("data") / line
    counts = split(line, getattr(config.load().split, line), root / "clean", root / "split")
    print(f"split {line}: " + ", ".join(f"{side} {counts[side]}" for side in SIDES), flush=True)


def split(line: str, parameters: config.Split, clean: Path, folder: Path) -> dict[Side, int]:
    """Write one Parquet file per side and the manifest below `folder`; returns the number of samples per side.

    Raises `StageError` where the test share of what differs is less than the line's evaluation needs.
    """
    outlines, thumbnails = _outlines(line, clean / SAMPLES)
    members = _grouped(line, outlines, thumbnails, parameters.near_duplicate_similarity)
    tests = _FEWEST_TESTS[line]
    fewest = math.ceil(tests / parameters.test)
    if len(members) < fewest:
        raise StageError(
            f"split.{line}: {len(outlines)} samples, of which {len(members)} differ; at least {fewest} are needed for "
            f"a test share of {parameters.test} to hold {tests}: add samples, or raise split.{line}.test"
        )
    sides = assign({name: _keys(outlines, group) for name, group in members.items()}, parameters, tests)
    group_of = {outlines[position].id: name for name, group in members.items() for position in group}
    with staged(folder) as partial:
        counts = {side: write(partial / f"{side}.parquet", _on(side, sides, group_of, clean)) for side in SIDES}
        seal(
            partial,
            line=line,
            kind="data",
            parents=json.loads((clean / SOURCES).read_text(encoding="utf-8")),
            parameters=parameters.model_dump(),
            metrics={"samples": counts, "groups": dict(Counter(sides.values()))},
        )
    return counts


def assign(keys: dict[str, list[str]], parameters: config.Split, fewest_tests: int = 1) -> dict[str, Side]:
    """The side of each group from the keys in it.

    Where chance left the test side of a small set fewer than `fewest_tests` groups, or the validation or training side
    none, the order of the draws decides which ones it takes.
    """
    draws = {name: min(draw(key, parameters.seed) for key in group) for name, group in keys.items()}
    order = sorted(draws, key=lambda name: (draws[name], name))
    tests = max(sum(d < parameters.test for d in draws.values()), fewest_tests)
    held_out = max(sum(d < parameters.test + parameters.validation for d in draws.values()), tests + 1)
    held_out = min(held_out, len(order) - 1)
    tests = min(tests, held_out - 1)
    return {
        name: "test" if rank < tests else "validation" if rank < held_out else "train"
        for rank, name in enumerate(order)
    }


def _on(side: Side, sides: dict[str, Side], group_of: dict[str, str], clean: Path) -> Iterator[Sample]:
    for sample in iterate(clean / SAMPLES):
        group = group_of[sample.id]
        if sides[group] == side:
            yield replace(sample, split=side, meta={**sample.meta, "split_group": group})


def _outlines(line: str, path: Path) -> tuple[list[Sample], NDArray[np.float32]]:
    """All samples without their pictures, and on the image line their thumbnails: samples × (16 · 16 · 3), 0 to 1."""
    outlines, thumbnails = [], []
    for sample in iterate(path):
        if line == "image":
            thumbnails.append(decode(sample.image or b"", _THUMBNAIL).astype(np.float32).ravel() / 255)
        outlines.append(replace(sample, image=None))
    return outlines, np.stack(thumbnails) if thumbnails else np.empty((0, 0), np.float32)


def _grouped(
    line: str, samples: Sequence[Sample], thumbnails: NDArray[np.float32], similarity: float
) -> dict[str, list[int]]:
    """Positions by group, named by the smallest id in it."""
    pairs = list(same_key([str(sample.meta.get("concept") or "") for sample in samples]))
    pairs += same_key([normalise(sample.text).casefold() for sample in samples])
    if line == "image":
        pairs += similar_pictures(thumbnails, similarity)
    else:
        # A phrase in other words that means the same is no new sample: what users taught must not leak into the test.
        pairs += same_key([normalise(str(s.meta.get("completion") or "")).casefold() for s in samples])
        texts = [normalise(f"{s.text} {s.meta.get('completion', '')}") for s in samples]
        pairs += similar_texts(texts, similarity)
    members: dict[int, list[int]] = defaultdict(list)
    for position, root in enumerate(groups(len(samples), pairs)):
        members[root].append(position)
    return {min(samples[p].id for p in group): group for group in members.values()}


def _keys(samples: Sequence[Sample], group: list[int]) -> list[str]:
    """What is drawn for: the concepts of a group, or its smallest id where its samples name none."""
    concepts = {str(samples[p].meta["concept"]) for p in group if samples[p].meta.get("concept")}
    return sorted(concepts) or [min(samples[p].id for p in group)]


if __name__ == "__main__":
    run(main)
