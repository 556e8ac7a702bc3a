"""Data that strategies are compared on: anybody's arrays, and what comes with the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.data import sample
from components.stage import StageError
from tests.bench import annotation_datasets as datasets
from tests.bench.annotation_datasets import built_in, from_file


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_file_of_arrays_keeps_its_rows_and_gets_numbers_for_its_classes(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(5, 20, (6, 3))
    found = from_file(saved(tmp_path / "mine.npz", x=x, y=np.array(["b", "a", "b", "b", "a", "a"])))
    assert found.name == "mine"
    assert found.y_N.tolist() == [1, 0, 1, 1, 0, 0]
    assert found.groups_N.tolist() == list(range(6))
    distances = (np.linalg.norm(rows[:, None] - rows, axis=2) for rows in (x, found.x_ND))
    mine, theirs = (d / d.max() for d in distances)
    np.testing.assert_allclose(mine, theirs, atol=1e-9)  # moved, turned and scaled: the geometry is kept


def test_groups_of_a_file_are_kept(tmp_path: Path) -> None:
    path = saved(tmp_path / "g.npz", x=np.eye(4), y=np.array([0, 1, 0, 1]), groups=np.array([7, 7, 8, 8]))
    assert from_file(path).groups_N.tolist() == [7, 7, 8, 8]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.eye(3)}, "expected an .npz file with the arrays x and y"),
        ({"x": np.eye(3), "y": np.arange(2)}, r"x \(3, 3\), y \(2,\)"),
        ({"x": np.full((3, 2), np.nan), "y": np.arange(3)}, "x has values that are no finite numbers"),
        ({"x": np.eye(3), "y": np.zeros(3)}, "1 classes in y; a comparison needs at least 2"),
        ({"x": np.array([[object()]]), "y": np.zeros(1)}, "expected an .npz file with the arrays x and y"),
    ],
)
def test_a_file_that_cannot_be_compared_on_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(StageError, match=said):
        from_file(saved(tmp_path / "bad.npz", **arrays))


def test_no_file_and_no_archive_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("absent.npz", "text.npz"):
        with pytest.raises(StageError, match=f"{name}: expected an .npz file"):
            from_file(tmp_path / name)


def test_the_projects_own_data_have_no_rare_class_and_a_concept_keeps_two_phrases(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real packages; only every tenth drawing, so that it takes seconds, and a few phrases of the text line."""
    phrases = [
        sample.Sample(
            f"{group}-{i}", f"a {group} of kind {i // 3}", meta={"group": group, "concept": f"{group}{i // 3}"}
        )
        for group, count in (("animal", 60), ("food", 60), ("flag", 12))
        for i in range(count)
    ]
    sample.write(tmp_path / "phrases.parquet", phrases)
    rendered = datasets.openmoji.samples
    monkeypatch.setattr(datasets.openmoji, "samples", lambda folder, size, _: rendered(assets, size, 450))
    monkeypatch.setattr(datasets, "PHRASES", [tmp_path / "phrases.parquet"])
    found = {one.name: one for one in built_in()}
    assert list(found) == ["digits", "OpenMoji captions", "OpenMoji pictures", "phrases"]
    assert all(np.bincount(one.y_N).min() >= datasets.RARE for one in found.values())
    assert np.unique(found["phrases"].groups_N, return_counts=True)[1].max() == datasets.PER_CONCEPT
    assert np.array_equal(found["OpenMoji captions"].y_N, found["OpenMoji pictures"].y_N)
