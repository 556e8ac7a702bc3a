"""What a split file must hold to be read as pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.pairs import MOST_REPEATS, Pair, read_pairs, repeated
from components.stage import StageError


def write(path: Path, rows: list[tuple[str, str, dict[str, Any]]]) -> Path:
    samples = [
        {"id": str(i), "text": text, "label": label, "source": "s", "meta": json.dumps(meta)}
        for i, (text, label, meta) in enumerate(rows)
    ]
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "label", "source", "meta")])
    pq.write_table(pa.Table.from_pylist(samples, schema=schema), path)
    return path


def test_pairs_come_in_stored_order(tmp_path: Path) -> None:
    dog = {"completion": "dog: pet", "concept": "1F415"}
    rows = [("draw a dog", "dog", dog), ("x", "", {"completion": "y"}), ("a cat", "", {**dog, "concept": "cat"})]
    pairs = read_pairs(write(tmp_path / "a.parquet", rows))
    assert pairs == [Pair("draw a dog", "dog: pet", "dog"), Pair("x", "y"), Pair("a cat", "dog: pet", "cat")]
    assert [pair.id for pair in pairs] == ["0", "1", "2"] and pairs[0].meta == {**dog, "label": "dog"}


def test_a_label_without_a_concept_names_no_picture(tmp_path: Path) -> None:
    (pair,) = read_pairs(write(tmp_path / "a.parquet", [("Capital of Chad?", "Africa", {"completion": "N'Djamena"})]))
    assert pair.concept == "" and pair.meta["label"] == "Africa"


def test_a_conversation_before_the_phrase_is_part_of_the_pair(tmp_path: Path) -> None:
    history = [{"role": "user", "content": "a boat"}, {"role": "assistant", "content": "boat"}]
    row = ("bluer", "boat", {"completion": "blue boat", "history": history})
    (pair,) = read_pairs(write(tmp_path / "a.parquet", [row]))
    assert pair.history == (("user", "a boat"), ("assistant", "boat"))
    assert pair.messages == (*pair.history, ("user", "bluer"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "holds no sample"), ([("draw", "dog", {})], "sample '0' has no text or no meta.completion")],
)
def test_unusable_samples_are_named(tmp_path: Path, rows: list[tuple[str, str, dict[str, Any]]], message: str) -> None:
    with pytest.raises(StageError, match=message):
        read_pairs(write(tmp_path / "a.parquet", rows))


def test_a_missing_or_broken_file_says_which_stage_to_run(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    for name in ("broken.parquet", "none.parquet"):
        with pytest.raises(StageError, match="run the data stages first"):
            read_pairs(tmp_path / name)


def test_learned_pairs_are_repeated_up_to_their_share_and_a_handful_not_without_end() -> None:
    source = [Pair(f"phrase {n}", "x", "x") for n in range(900)]
    learned = [Pair(f"learned {n}", "y", "y", learned=True) for n in range(60)]
    assert len(repeated(source + learned, 0.4)) == 900 + 600
    assert len(repeated(source + learned[:1], 0.4)) == 900 + MOST_REPEATS
    assert repeated(source, 0.4) == source
    assert repeated(learned, 0.4) == learned
