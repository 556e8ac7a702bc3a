"""Answers become a version that names itself by its content, and that the pipeline takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from components.annotation.label_studio import Answer
from components.annotation.prelabel import identity
from components.annotation.reconcile import CORRECTED, VERDICTS, Verdict, judge, prepared_labels, write_version
from components.artifact import ArtifactError, read_manifest, verify
from components.data.sample import SAMPLES, SOURCES, iterate, read
from components.stage import StageError
from tests.components.annotation.simulated import WRONG, write_data

ANIMAL, FOOD = "Animals & Nature", "Food & Drink"
LABELS = {"a": FOOD, "b": FOOD}


def answer(sample_id: str, category: str, time: str = "2026-01-01T00:00:00.5Z", annotation: int = 1) -> Answer:
    return Answer(task=7, annotation=annotation, sample_id=sample_id, category=category, annotator=3, time=time)


def test_the_newest_answer_about_a_sample_wins() -> None:
    early, late = answer("a", ANIMAL, "2026-01-01T00:00:01Z"), answer("a", FOOD, "2026-01-01T00:00:01.000001Z")
    assert judge([late, early], LABELS, {ANIMAL, FOOD}) == ([Verdict("a", FOOD, FOOD, 3, late.time)], [])
    same_time = [answer("a", FOOD, annotation=2), answer("a", ANIMAL, annotation=1)]
    assert judge(same_time, LABELS, {ANIMAL, FOOD})[0][0].new == FOOD


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (answer("gone", FOOD), "task 7, sample gone: the data in use has no such sample"),
        (answer("b", "Robots"), "task 7, sample b: the template does not know the category 'Robots'"),
        (answer("b", ""), "task 7, sample b: the annotation names no single category"),
        (answer("", FOOD), "task 7, sample (none): the data in use has no such sample"),
    ],
)
def test_an_answer_that_cannot_count_is_refused_by_name_and_the_others_count(wrong: Answer, sentence: str) -> None:
    verdicts, refused = judge([wrong, answer("a", ANIMAL)], LABELS, {ANIMAL, FOOD})
    assert refused == [sentence]
    assert [v.sample_id for v in verdicts] == ["a"]


def wrong_id(data: Path) -> str:
    return next(identity(s) for s in iterate(data / "prepared" / SAMPLES) if s.text == WRONG)


def corrected(data: Path) -> list[Verdict]:
    return [Verdict(wrong_id(data), FOOD, ANIMAL, 3, "2026-01-01T00:00:00Z")]


def test_a_version_holds_every_sample_the_corrections_the_verdicts_and_its_parent(data: Path, tmp_path: Path) -> None:
    folder, manifest = write_version(corrected(data), data / "prepared", data / "split", tmp_path)
    assert folder.name == manifest.digest[:12] and verify(folder) == manifest
    assert manifest.parents == {"data": read_manifest(data / "split").digest}
    assert manifest.metrics == {"samples": 24, "verdicts": 1, "corrected": 1}
    assert [(s.text, s.label) for s in read(folder / CORRECTED)] == [(WRONG, ANIMAL)]
    (line,) = (folder / VERDICTS).read_text().splitlines()
    assert [Verdict(**json.loads(line))] == corrected(data)


def test_the_same_verdicts_write_nothing_new_and_a_damaged_version_is_named(data: Path, tmp_path: Path) -> None:
    folder, manifest = write_version(corrected(data), data / "prepared", data / "split", tmp_path)
    before = (folder / VERDICTS).stat().st_mtime_ns
    assert write_version(corrected(data), data / "prepared", data / "split", tmp_path) == (folder, manifest)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / VERDICTS).stat().st_mtime_ns == before
    (folder / VERDICTS).write_text("")
    with pytest.raises(ArtifactError, match=r"verdicts\.jsonl was changed"):
        write_version(corrected(data), data / "prepared", data / "split", tmp_path)


def test_the_pipeline_takes_a_version_and_people_know_its_samples_again(data: Path, tmp_path: Path) -> None:
    folder, _ = write_version(corrected(data), data / "prepared", data / "split", tmp_path)
    second = write_data(folder, tmp_path / "second")
    old, new = ({identity(s): s for s in iterate(d / "clean" / SAMPLES)} for d in (data, second))
    assert old.keys() == new.keys()
    assert [i for i in old if old[i].label != new[i].label] == [wrong_id(data)]
    assert {s.meta["licence"] for s in new.values()} == {"CC0"}
    # What the next version is made from is the same again: the corrections converge.
    verdicts = [replace(v, old=v.new) for v in corrected(data)]
    again, manifest = write_version(verdicts, second / "prepared", second / "split", tmp_path)
    assert (again / "metadata.jsonl").read_bytes() == (folder / "metadata.jsonl").read_bytes()
    assert manifest.metrics["corrected"] == 0


def test_labels_of_another_source_than_the_data_versions_are_refused(data: Path, tmp_path: Path) -> None:
    assert len(prepared_labels(data / "prepared", data / "split")) == 24
    (tmp_path / SAMPLES).write_bytes((data / "prepared" / SAMPLES).read_bytes())
    (tmp_path / SOURCES).write_text('{"metadata.jsonl": "other"}')
    with pytest.raises(StageError, match="was not made from"):
        prepared_labels(tmp_path, data / "split")
