from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from components.data.near_duplicates import near_pictures, near_texts
from components.data.picture import encode_png
from components.data.sample import PREFERRED, Sample, write

TEXT = "the quick brown fox jumps over the lazy dog while the cat sleeps in the sun all day long"


def reasons(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    assert {slug for slug, _ in found.values()} <= {"near_duplicate"}
    return {identity: reason.split()[4].rstrip(",") for identity, (_, reason) in found.items()}


def texts(folder: Path, *samples: Sample) -> Path:
    write(folder / "samples.parquet", samples)
    return folder / "samples.parquet"


def pair(identity: str, text: str, completion: str = "yes", source: str = "", **meta: object) -> Sample:
    return Sample(identity, text, source=source, meta={"completion": completion, **meta})


def test_the_longest_text_stays_then_the_smallest_id_and_each_other_names_it(tmp_path: Path) -> None:
    path = texts(tmp_path, pair("b", TEXT), pair("a", TEXT), pair("c", f"{TEXT}!"), pair("d", "a fox"), pair("e", TEXT))
    assert reasons(near_texts(path, {}, 0.8)) == {"a": "c", "b": "c", "e": "c"}
    assert reasons(near_texts(path, {"c"}, 0.8)) == {"b": "a", "e": "a"}  # what is dropped already is not asked


def test_white_space_and_case_make_no_difference_and_earlier_messages_and_answers_do(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "tell me of ships, harbours and the sea, and of nothing else at all please"}]
    path = texts(
        tmp_path,
        pair("a", TEXT),
        pair("b", TEXT.upper().replace(" ", " \n ")),
        pair("c", TEXT, "an answer of quite another kind, in many more words than the prompt had to begin with"),
        pair("d", TEXT, history=said),
    )
    assert reasons(near_texts(path, {}, 0.9)) == {"b": "a"}


def test_what_users_taught_neither_gives_way_nor_takes_a_place(tmp_path: Path) -> None:
    path = texts(tmp_path, pair("a", TEXT), pair("preferred-1", f"{TEXT}!!", source=PREFERRED))
    assert near_texts(path, {}, 0.8) == {}


def test_a_sample_that_is_similar_only_to_one_that_goes_stays(tmp_path: Path) -> None:
    words = TEXT.split()
    chain = [" ".join([*words[: -shift or None], *["zebra"] * shift]) for shift in (0, 2, 4)]
    path = texts(tmp_path, *(pair(name, text) for name, text in zip("abc", chain, strict=True)))
    found = reasons(near_texts(path, {}, 0.75))
    assert len(found) == 1 and set(found) < {"a", "b", "c"}


def picture(seed: int, side: int = 32, lighter: int = 0) -> bytes:
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 200, (8, 8, 3), dtype=np.uint8) + np.uint8(lighter))
    return encode_png(small.resize((side, side), Image.Resampling.NEAREST))


def test_the_largest_picture_stays_and_all_captions_and_masks_of_it(tmp_path: Path) -> None:
    path = texts(
        tmp_path,
        Sample("a", "a box", picture(1)),
        Sample("b", "a box", picture(1, 64)),
        Sample("c", "another caption", picture(1, 64)),
        Sample("d", "a lighter box", picture(1, lighter=3)),
        Sample("e", "another box", picture(2)),
        Sample("f", "its mask", picture(2), mask=picture(3)),
    )
    assert reasons(near_pictures(path, {}, 0.97)) == {"a": "b", "d": "b"}
    assert near_pictures(path, {"a", "b", "c", "d", "e", "f"}, 0.97) == {}
