"""An artifact's digest names its bytes: equal inputs give an equal one, and any change is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifact import ArtifactError, read_manifest, seal, verify, write_csv


def make(folder: Path, text: str = "weights") -> str:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "model.bin").write_text(text)
    return seal(folder, line="image", kind="export", parents={"data": "0" * 64}, parameters={"a": 1}, metrics={}).digest


def test_equal_content_has_an_equal_digest_wherever_it_lies(tmp_path: Path) -> None:
    assert make(tmp_path / "one") == make(tmp_path / "two") != make(tmp_path / "three", "others")
    assert verify(tmp_path / "one").digest == read_manifest(tmp_path / "one").digest


def test_changed_missing_and_extra_files_are_each_named(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "sub" / "model.bin").write_text("tampered")
    (tmp_path / "a" / "extra.bin").write_text("planted")
    with pytest.raises(ArtifactError, match=r"extra\.bin is not in the manifest; sub/model\.bin was changed"):
        verify(tmp_path / "a")
    (tmp_path / "a" / "sub" / "model.bin").unlink()
    with pytest.raises(ArtifactError, match=r"sub/model\.bin is missing"):
        verify(tmp_path / "a")


def test_a_directory_without_a_manifest_is_unfinished(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has not finished"):
        verify(tmp_path)


def test_a_table_without_rows_has_the_header_that_plots_need(tmp_path: Path) -> None:
    write_csv(tmp_path / "none.csv", ("step", "loss"), [])
    write_csv(tmp_path / "one.csv", ("step", "loss"), [{"loss": 0.5, "step": 1}])
    assert [(tmp_path / f"{name}.csv").read_text() for name in ("none", "one")] == ["step,loss\n", "step,loss\n1,0.5\n"]
