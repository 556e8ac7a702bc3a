from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.artifact import verify
from components.config import Split
from components.data.concept import draw
from components.data.picture import encode_png
from components.data.sample import REJECTS, SAMPLES, SOURCES, Sample, read, write
from components.data.split import SIDES, bounds, side_of, split
from components.stage import StageError
from tests.components.data.rejects import read_rejects

TEXT = Split(seed=7, validation=0.1, test=0.2, near_duplicate_similarity=0.8)
IMAGE = Split(seed=7, validation=0.1, test=0.2, near_duplicate_similarity=0.97)


def cleaned(folder: Path, samples: list[Sample]) -> Path:
    write(folder / SAMPLES, samples)
    (folder / SOURCES).write_text(json.dumps({"metadata.jsonl": "abc"}))
    return folder


def noise(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8))


def phrase(concept: int, number: int) -> Sample:
    completion = {"completion": f"thing {concept * 7919}: word{concept}", "concept": f"C{concept}"}
    return Sample(id=f"p{concept}-{number}", text=f"{number * 31} of {concept}", meta=completion)


def drawing(concept: int, tone: int) -> Sample:
    meta = {"concept": f"C{concept}", "tone": str(tone)}
    return Sample(id=f"d{concept}-{tone}", text=f"{concept} {tone}", image=noise(concept * 10 + tone), meta=meta)


def sides_of(folder: Path) -> dict[str, str]:
    return {sample.id: side for side in SIDES for sample in read(folder / f"{side}.parquet")}


def test_every_sample_is_on_one_side_and_the_manifest_holds(tmp_path: Path) -> None:
    samples = [phrase(concept, number) for concept in range(200) for number in range(3)]
    counts, left_out = split("text", TEXT, cleaned(tmp_path / "in", samples), tmp_path / "out")
    assert left_out == 0
    assert sides_of(tmp_path / "out").keys() == {sample.id for sample in samples}
    assert sum(counts.values()) == 600 and 60 < counts["test"] < 180 and 20 < counts["validation"] < 110
    manifest = verify(tmp_path / "out")
    assert manifest.kind == "data" and manifest.parents == {"metadata.jsonl": "abc"}
    assert manifest.metrics["samples"] == counts
    assert all(sample.split == "test" for sample in read(tmp_path / "out" / "test.parquet"))


def test_the_same_data_version_comes_out_twice_and_another_seed_gives_another(tmp_path: Path) -> None:
    source = cleaned(tmp_path / "in", [phrase(concept, 0) for concept in range(50)])
    versions = []
    for number, seed in enumerate((7, 7, 8)):
        split("text", TEXT.model_copy(update={"seed": seed}), source, tmp_path / str(number))
        versions.append(verify(tmp_path / str(number)).digest)
    assert versions[0] == versions[1] != versions[2]


def test_variants_of_one_concept_share_a_side(tmp_path: Path) -> None:
    samples = [drawing(concept, tone) for concept in range(40) for tone in range(6)]
    split("image", IMAGE, cleaned(tmp_path / "in", samples), tmp_path / "out")
    by_concept = defaultdict(set)
    for identity, side in sides_of(tmp_path / "out").items():
        by_concept[identity.split("-")[0]].add(side)
    assert all(len(sides) == 1 for sides in by_concept.values())
    assert {side for sides in by_concept.values() for side in sides} == set(SIDES)


def test_text_and_image_line_hold_out_the_same_concepts(tmp_path: Path) -> None:
    split("text", TEXT, cleaned(tmp_path / "t", [phrase(c, n) for c in range(60) for n in range(2)]), tmp_path / "text")
    split("image", IMAGE, cleaned(tmp_path / "i", [drawing(c, 0) for c in range(60)]), tmp_path / "image")
    text = {identity.split("-")[0][1:]: side for identity, side in sides_of(tmp_path / "text").items()}
    image = {identity.split("-")[0][1:]: side for identity, side in sides_of(tmp_path / "image").items()}
    assert text == image
    assert all((side == "test") == (draw(f"C{concept}", 7) < 0.2) for concept, side in text.items())


def test_nearly_equal_samples_without_a_concept_share_a_side(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 200, (16, 16, 3), dtype=np.uint8)
    twins = [Sample(id=f"twin{n}", text=f"photo {n}", image=encode_png(picture + np.uint8(n))) for n in range(6)]
    others = [Sample(id=f"other{n}", text=f"other {n}", image=noise(n)) for n in range(30)]
    split("image", IMAGE, cleaned(tmp_path / "in", twins + others), tmp_path / "out")
    assert len({side for name, side in sides_of(tmp_path / "out").items() if name.startswith("twin")}) == 1

    sentence = "please paint a small green dragon that eats breakfast on the roof of a very old town hall"
    texts = [Sample(id=f"twin{n}", text=f"{sentence} {n}", meta={"completion": "dragon"}) for n in range(6)]
    texts += [Sample(id=f"other{n}", text=f"{n * 7919}", meta={"completion": f"{n * 104729}"}) for n in range(30)]
    split("text", TEXT, cleaned(tmp_path / "in2", texts), tmp_path / "out2")
    assert len({side for name, side in sides_of(tmp_path / "out2").items() if name.startswith("twin")}) == 1


def test_what_users_taught_is_on_the_side_of_what_means_the_same(tmp_path: Path) -> None:
    source = [phrase(concept, number) for concept in range(60) for number in range(3)]
    taught = [
        Sample(id=f"written-{n}", text=f"Wort {n}", source="written", meta={"completion": s.meta["completion"].upper()})
        for n, s in enumerate(source)
    ]
    cleaned(tmp_path / "clean", source + taught)
    split("text", TEXT, tmp_path / "clean", tmp_path / "split")
    sides = sides_of(tmp_path / "split")
    assert {sides[s.id] for s in source} == set(SIDES)
    assert all(sides[t.id] == sides[s.id] for t, s in zip(taught, source, strict=True))


def answered(count: int, answer: Callable[[int], str], source: str = "mine") -> list[Sample]:
    return [
        Sample(id=f"{source}-{n:04}", text=f"{n * 7919} or {n * 104729}", source=source, meta={"completion": answer(n)})
        for n in range(count)
    ]


def test_500_questions_with_two_answers_are_split_and_the_manifest_says_why(tmp_path: Path) -> None:
    samples = answered(500, lambda n: "Yes" if draw(str(n), 1) < 0.5 else "no ")
    counts, left_out = split("text", TEXT, cleaned(tmp_path / "in", samples), tmp_path / "out")
    assert sum(counts.values()) == 500 and left_out == 0 and 70 < counts["test"] < 130 and counts["validation"] > 20
    for side in SIDES:
        assert {s.meta["completion"] for s in read(tmp_path / "out" / f"{side}.parquet")} == {"Yes", "no "}
    metrics = verify(tmp_path / "out").metrics
    assert metrics["categories"] == {"answers": 2, "phrases": 500} and metrics["joined"]["same_answer"] == 0


def test_what_few_phrases_ask_for_or_what_is_long_stays_together_however_often_users_taught_it(tmp_path: Path) -> None:
    faq = "Bring the receipt and the unopened box to any of our shops within thirty days of the purchase."
    asked = [(f"answer {n * 7919}", 10, "mine") for n in range(30)]  # by as many phrases as may mean one thing
    asked += [(faq, 30, "faq"), ("a red kite", 2, "kite"), ("a red kite", 40, "written")]
    samples = [
        Sample(id=f"{source}-{answer}-{n}", text=f"{n * 7919} {len(answer)} {source}", source=source,
               meta={"completion": answer})
        for answer, count, source in asked for n in range(count)
    ]  # fmt: skip
    split("text", TEXT, cleaned(tmp_path / "in", samples), tmp_path / "out")
    sides = defaultdict(set)
    for side in SIDES:
        for sample in read(tmp_path / "out" / f"{side}.parquet"):
            sides[sample.meta["completion"]].add(side)
    assert all(len(found) == 1 for found in sides.values()) and len(sides) == 32


def alike(group: int, size: int, concepts: bool) -> list[Sample]:
    """Phrases that are nearly the same because one completion belongs to all, of as many concepts as there are."""
    meta = {"completion": f"thing {group * 7919}: word{group}"}
    return [
        Sample(
            id=f"g{group}-{n}", text=f"{n * 31} {group}", meta=meta | ({"concept": f"C{group}-{n}"} if concepts else {})
        )
        for n in range(size)
    ]


@pytest.mark.parametrize("concepts", [True, False])
def test_16_a_large_group_is_a_test_as_often_as_a_small_one(tmp_path: Path, concepts: bool) -> None:
    sizes = {group: (1, 2, 8)[group % 3] for group in range(1200)}
    samples = [sample for group, size in sizes.items() for sample in alike(group, size, concepts)]
    split("text", TEXT, cleaned(tmp_path / "in", samples), tmp_path / "out")
    tested = {identity.partition("-")[0] for identity, side in sides_of(tmp_path / "out").items() if side == "test"}
    for size in (1, 2, 8):
        share = sum(f"g{group}" in tested for group in sizes if sizes[group] == size) / 400
        assert abs(share - 0.2) < 3 * (0.2 * 0.8 / 400) ** 0.5


@given(st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=4), max_size=8), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_16_what_one_line_tests_the_other_never_learns_whatever_is_similar_where(
    merged: list[list[int]], seed: int
) -> None:
    parameters = TEXT.model_copy(update={"seed": seed})
    same_words = {concept: group[0] for group in merged for concept in group}
    texts = [
        Sample(
            id=f"t{c}", text=f"{c * 7919}", meta={"concept": f"C{c}", "completion": f"{same_words.get(c, c) * 104729}"}
        )
        for c in range(60)
    ]
    lonely = [replace(sample, id=f"u{c}", meta={**sample.meta, "completion": f"{c}"}) for c, sample in enumerate(texts)]
    sides = []
    with tempfile.TemporaryDirectory() as folder:
        for name, samples in (("merged", texts), ("lonely", lonely)):
            counts, left_out = split(
                "text", parameters, cleaned(Path(folder, name), samples), Path(folder, f"{name}-out")
            )
            assert sum(counts.values()) + left_out == len(samples)
            assert len(read_rejects(Path(folder, f"{name}-out") / REJECTS)) == left_out
            sides.append({identity[1:]: side for identity, side in sides_of(Path(folder, f"{name}-out")).items()})
    merged_sides, lonely_sides = sides
    assert all(lonely_sides[concept] == side for concept, side in merged_sides.items())


@pytest.mark.parametrize(("count", "tests"), [(5, 1), (20, 4), (50, 4)])
def test_a_small_set_has_enough_to_test_on_and_no_empty_side(count: int, tests: int) -> None:
    for seed in range(20):
        draws = [draw(str(n), seed) for n in range(count)]
        sides = [side_of(number, bounds(draws, TEXT, tests)) for number in draws]
        assert set(sides) == set(SIDES) and sides.count("test") >= tests


def test_too_few_samples_that_differ_are_refused_with_their_number(tmp_path: Path) -> None:
    few = [Sample(id=str(n), text=f"photo {n}", image=noise(n)) for n in range(3)]
    with pytest.raises(StageError, match=r"split\.image: 3 samples, of which 3 differ; at least 20 .* add samples"):
        split("image", IMAGE, cleaned(tmp_path / "few", few), tmp_path / "out")
    alike = [Sample(id=str(n), text=f"photo {n}", image=noise(0)) for n in range(50)]
    with pytest.raises(StageError, match="50 samples, of which 1 differ"):
        split("image", IMAGE, cleaned(tmp_path / "alike", alike), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_samples_whose_concept_is_null_are_not_of_one_concept(tmp_path: Path) -> None:
    samples = [Sample(id=str(n), text=f"photo {n}", image=noise(n), meta={"concept": None}) for n in range(20)]
    assert all(split("image", IMAGE, cleaned(tmp_path / "in", samples), tmp_path / "out")[0].values())
