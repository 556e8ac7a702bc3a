"""What people are asked first is what its neighbours doubt."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.annotation.prelabel import Proposal, identity, propose, tasks
from components.artifact import seal
from components.data.sample import Sample, write
from components.stage import StageError
from tests.components.annotation.simulated import FOOD, WRONG, embed


def test_a_score_is_the_share_of_neighbours_with_the_same_label() -> None:
    vectors = np.array([[1, 0]] * 3 + [[0, 1]] * 3, dtype=np.float32)
    assert propose(["a", "a", "b", "c", "c", "c"], vectors)[0].score == 0.2  # one of the five others
    assert propose(["a"] * 6, vectors) == [Proposal("a", 1.0)] * 6


def test_a_sample_without_a_label_gets_its_neighbours_and_is_nobodys_neighbour() -> None:
    vectors = embed([*FOOD, "badger", "camel"])
    labels = [""] + ["food"] * 11 + ["animal"] * 2
    assert propose(labels, vectors)[0] == Proposal("food", 1.0)
    assert propose(labels, vectors)[12].score == 0.1


def test_the_most_doubtful_sample_is_the_one_with_the_wrong_label(data: Path) -> None:
    categories, (first, second) = tasks(data / "split", embed, 2)
    assert categories == ["Animals & Nature", "Food & Drink"]
    assert (first.text, first.category, first.score) == (WRONG, "Food & Drink", 0.0)
    assert second.score > 0.5
    assert Image.open(io.BytesIO(first.image)).size == (16, 16)


def test_labels_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [Sample("1", "apple", label="food"), Sample("2", "bread")])
    seal(tmp_path, line="image", kind="data", parents={}, parameters={}, metrics={})
    with pytest.raises(StageError, match="1 different labels; annotation needs samples of at least two"):
        tasks(tmp_path, embed, 1)


def test_a_sample_keeps_the_id_by_which_people_know_it() -> None:
    assert identity(Sample("content", "x", meta={"atelier_id": "first"})) == "first"
    assert identity(Sample("content", "x", meta={"atelier_id": 5})) == "content"
