"""Stage `split`: `data/<line>/clean/` → train, validation and test, near-identical samples always on one side.

Samples of one concept, of nearly one text, of one answer or of nearly one picture form a group. A short answer that
many phrases share, such as "yes", is a category of them and joins none (`categories`). One draw decides a group's
side, that of the concept that most of its samples show (`components.data.concept`), so that a large group is held out
as often as a small one. A sample of a group whose own concept falls on another side than the group would be held out
in one line and trained on in the other: it is left out, beside the reason. The manifest's digest is the version of
the data.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components import config
from components.artifact import seal, staged
from components.data.concept import Side, draw
from components.data.duplicates import Pair, groups, same_key, similar_pictures, similar_texts
from components.data.filters import normalise
from components.data.picture import thumbnail
from components.data.sample import (
    LEARNED,
    REJECT_SCHEMA,
    REJECTS,
    SAMPLES,
    SOURCES,
    Reject,
    Sample,
    first_reasons,
    iterate,
    write,
)
from components.paths import DATA
from components.stage import StageError, run

SIDES: tuple[Side, ...] = ("train", "validation", "test")
# What makes an answer a category of phrases rather than the answer to one of them, said in other words: more phrases of
# the source share it than that, and it has at most so many characters.
_SHARED, _SHORT = 10, 60
# KID compares test pictures of different groups and its error leaves out one group at a time (`components.evaluation.
# kid`): below three there is no error at all, and the gate would take a guess for a certainty.
_FEWEST_TESTS: dict[str, int] = {"text": 1, "image": 4}


def main(line: config.Line) -> None:
    """Assign every clean sample of `line` to a side and seal the result as a data version."""
    root = DATA / line
    counts, left_out = split(line, getattr(config.load().split, line), root / "clean", root / "split")
    first = first_reasons(root / "split" / REJECTS)
    words = f"; {left_out} left out: {first}" if left_out else ""
    print(f"split {line}: " + ", ".join(f"{side} {counts[side]}" for side in SIDES) + words, flush=True)


def split(line: str, parameters: config.Split, clean: Path, folder: Path) -> tuple[dict[Side, int], int]:
    """Write one Parquet file per side, what is left out and the manifest below `folder`; returns how many of each.

    Raises `StageError` where the test share of what differs is less than the line's evaluation needs.
    """
    outlines, thumbnails = _outlines(line, clean / SAMPLES)
    links = _links(line, outlines, thumbnails, parameters.near_duplicate_similarity)
    members = _members(outlines, chain.from_iterable(links.values()))
    joined = {rule: len(pairs) for rule, pairs in links.items()}
    tests = _FEWEST_TESTS[line]
    fewest = math.ceil(tests / parameters.test)
    if len(members) < fewest:
        raise StageError(
            f"split.{line}: {len(outlines)} samples, of which {len(members)} differ; at least {fewest} are needed for "
            f"a test share of {parameters.test} to hold {tests}: add samples, or raise split.{line}.test or "
            f"split.{line}.near_duplicate_similarity (joined: {_listed(joined)})"
        )
    draws = {name: draw(_key(outlines, group), parameters.seed) for name, group in members.items()}
    limits = bounds([*draws.values()], parameters, tests)
    sides = {name: side_of(number, limits) for name, number in draws.items()}
    group_of = {outlines[position].id: name for name, group in members.items() for position in group}
    reasons = dict(_left_out(outlines, group_of, sides, parameters.seed, limits))
    with staged(folder) as partial:
        counts = {
            side: write(partial / f"{side}.parquet", _on(side, sides, group_of, reasons, clean)) for side in SIDES
        }
        rejects = (Reject(s, "other_side", reasons[s.id]) for s in iterate(clean / SAMPLES) if s.id in reasons)
        left_out = write(partial / REJECTS, rejects, REJECT_SCHEMA)
        seal(
            partial,
            line=line,
            kind="data",
            parents=json.loads((clean / SOURCES).read_text(encoding="utf-8")),
            parameters=parameters.model_dump(),
            metrics={"samples": counts, "groups": dict(Counter(sides.values())), "left_out": left_out}
            | (_joined(outlines, joined) if line == "text" else {}),
        )
    return counts, left_out


def bounds(draws: Sequence[float], parameters: config.Split, fewest_tests: int) -> tuple[float, float]:
    """The draws below which a group is a test, and below which it is held out at all.

    They are the shares asked for. Where chance left the test side of a small set fewer than `fewest_tests` groups, or
    the validation or training side none, the order of the draws decides which ones it takes.
    """
    order = sorted(draws)
    shares = parameters.test, parameters.test + parameters.validation
    by_chance = [sum(number < share for number in draws) for share in shares]
    held_out = min(max(by_chance[1], max(by_chance[0], fewest_tests) + 1), len(order) - 1)
    tests = min(max(by_chance[0], fewest_tests), held_out - 1)
    limits = [
        share if count == chance else order[count]
        for share, count, chance in zip(shares, (tests, held_out), by_chance, strict=True)
    ]
    return limits[0], limits[1]


def side_of(number: float, limits: tuple[float, float]) -> Side:
    """The side of what has drawn `number`."""
    return "test" if number < limits[0] else "validation" if number < limits[1] else "train"


def _left_out(
    samples: Sequence[Sample], group_of: dict[str, str], sides: dict[str, Side], seed: int, limits: tuple[float, float]
) -> Iterator[tuple[str, str]]:
    """The samples whose own concept falls on another side than their group, with the reason."""
    for sample in samples:
        concept = str(sample.meta.get("concept") or "")
        side, own = sides[group_of[sample.id]], side_of(draw(concept, seed), limits)
        if concept and own != side:
            yield (
                sample.id,
                f"concept {concept} falls on the side {own}, and this is nearly the same as what is on the side {side}",
            )


def _on(
    side: Side, sides: dict[str, Side], group_of: dict[str, str], left_out: Container[str], clean: Path
) -> Iterator[Sample]:
    for sample in iterate(clean / SAMPLES):
        group = group_of[sample.id]
        if sides[group] == side and sample.id not in left_out:
            yield replace(sample, split=side, meta={**sample.meta, "split_group": group})


def _outlines(line: str, path: Path) -> tuple[list[Sample], NDArray[np.float32]]:
    """All samples without their pictures, and on the image line their thumbnails: samples × (16 · 16 · 3), 0 to 1."""
    outlines, thumbnails = [], []
    for sample in iterate(path):
        if line == "image":
            thumbnails.append(thumbnail(sample.image or b""))
        outlines.append(replace(sample, image=None, mask=None))
    return outlines, np.stack(thumbnails) if thumbnails else np.empty((0, 0), np.float32)


def _links(
    line: str, samples: Sequence[Sample], thumbnails: NDArray[np.float32], similarity: float
) -> dict[str, list[Pair]]:
    """Pairs of positions that stay together, by the rule that joins them; a pair that others join may be left out."""
    texts = list(map(_whole, samples))
    links = {
        "same_concept": [*same_key([str(sample.meta.get("concept") or "") for sample in samples])],
        "same_text": [*same_key([normalise(text).casefold() for text in texts])],
    }
    if line == "image":
        return links | {"similar_picture": [*similar_pictures(thumbnails, similarity)]}
    answers = [str(sample.meta.get("completion") or "") for sample in samples]
    whole = [normalise(f"{text} {answer}") for text, answer in zip(texts, answers, strict=True)]
    # A phrase in other words that means the same is no new sample: what users taught must not leak into the test.
    common = categories(samples)
    alone = ["" if answer in common else answer for answer in map(_answer, samples)]
    return links | {"same_answer": [*same_key(alone)], "similar_text": [*similar_texts(whole, similarity)]}


def _members(samples: Sequence[Sample], pairs: Iterable[Pair]) -> dict[str, list[int]]:
    """Positions by group, named by the smallest id in it."""
    members: dict[int, list[int]] = defaultdict(list)
    for position, root in enumerate(groups(len(samples), pairs)):
        members[root].append(position)
    return {min(samples[p].id for p in group): group for group in members.values()}


def categories(samples: Sequence[Sample]) -> dict[str, int]:
    """The answers that say of which kind a phrase is, such as "yes": how many phrases of the source share each.

    What users taught is not counted: however many ways they have of asking for one thing, it stays one thing.
    """
    shared = Counter(_answer(sample) for sample in samples if sample.source not in LEARNED)
    return {answer: n for answer, n in shared.items() if answer and n > _SHARED and len(answer) <= _SHORT}


def _answer(sample: Sample) -> str:
    """The answer as it is compared; empty in a conversation, where the last one says too little."""
    answer = "" if sample.meta.get("history") else str(sample.meta.get("completion") or "")
    return normalise(answer).casefold()


def _joined(samples: Sequence[Sample], joined: dict[str, int]) -> dict[str, Any]:
    """For the manifest: how many links each rule made, and which answers made none because they are categories."""
    common = categories(samples)
    return {"joined": joined, "categories": {"answers": len(common), "phrases": sum(common.values())}}


def _listed(joined: dict[str, int]) -> str:
    return ", ".join(f"{count} by {rule.replace('_', ' ')}" for rule, count in joined.items())


def _whole(sample: Sample) -> str:
    """All that is said before the answer."""
    return " ".join([*(message["content"] for message in sample.meta.get("history", ())), sample.text])


def _key(samples: Sequence[Sample], group: list[int]) -> str:
    """What is drawn for: the concept that most samples of a group show, or its smallest id where they name none."""
    concepts = Counter(sorted(str(samples[p].meta["concept"]) for p in group if samples[p].meta.get("concept")))
    return concepts.most_common(1)[0][0] if concepts else min(samples[p].id for p in group)


if __name__ == "__main__":
    run(main)
