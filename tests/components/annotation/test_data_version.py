"""Answers become a version that names itself by its content, and that the pipeline takes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from components.annotation.batch import identity
from components.annotation.data_version import CORRECTED, VERDICTS, Verdict, prepared_labels, verdicts, write_version
from components.annotation.task_store import Move, RecordedAnswer, Task
from components.annotation.template import BAD, CHANGE, KEEP
from components.annotation.workflow import MoveKind, State, Tier
from components.artifact import ArtifactError, read_manifest, verify
from components.data.sample import SAMPLES, SOURCES, iterate, read
from components.stage import StageError
from tests.components.annotation.simulated import WRONG, write_data

ANIMAL, FOOD = "Animals & Nature", "Food & Drink"


def task(number: int, sample: str, state: State, label: str = "", gold: str = "") -> Task:
    return Task(number, "p", sample, gold, state, label, 3, 0.0)


def move(number: int, version: int, kind: MoveKind, who: str, label: str = "") -> Move:
    return Move(number, version, State.ANNOTATE, State.DONE, kind, label, 100.0 + version, who, f"{who} said so")


def record(number: int, tier: Tier, person: str, label: str, ended: float | None = None) -> RecordedAnswer:
    return RecordedAnswer(1, number, tier, person, label, "", 0.0, None, None, ended, "")


def test_only_what_is_settled_is_a_verdict() -> None:
    tasks = [
        task(4, "d", State.DISCARDED),
        task(1, "a", State.DONE, ANIMAL),
        task(2, "b", State.REVIEW),
        task(3, "c", State.ANNOTATE, gold=FOOD),
        task(5, "elsewhere", State.DONE, FOOD),
    ]
    recorded = {
        1: [
            record(1, Tier.ANNOTATE, "3", FOOD, ended=5.0),
            record(1, Tier.ANNOTATE, "4", ANIMAL),
            record(1, Tier.REVIEW, "7", ANIMAL),
        ],
        2: [record(2, Tier.ANNOTATE, "4", FOOD)],
        3: [record(3, Tier.ANNOTATE, "4", FOOD)],
    }
    moves = [
        move(1, 2, MoveKind.SUBMIT, "4"),
        move(1, 3, MoveKind.ACCEPT, "7", ANIMAL),
        move(4, 3, MoveKind.DISCARD, "9"),
        move(5, 3, MoveKind.AGREE, "4", FOOD),
    ]
    settled, refused = verdicts(tasks, recorded, moves, dict.fromkeys("abcd", FOOD), "category")
    assert settled == [
        Verdict("a", FOOD, ANIMAL, ("4", "7"), "accept", "7 said so", 103.0),
        Verdict("d", FOOD, "", (), "discard", "9 said so", 103.0),
    ]
    assert refused == ["sample elsewhere: the data in use has no such sample"]


def wrong_id(data: Path) -> str:
    return next(identity(s) for s in iterate(data / "prepared" / SAMPLES) if s.text == WRONG)


def corrected(data: Path) -> list[Verdict]:
    return [Verdict(wrong_id(data), FOOD, ANIMAL, ("3", "4"), "agree", "sure", 1.0)]


def test_a_version_holds_every_sample_the_corrections_the_verdicts_and_its_parent(data: Path, tmp_path: Path) -> None:
    folder, manifest = write_version(corrected(data), data / "prepared", data / "split", tmp_path, "category")
    assert folder.name == manifest.digest[:12] and verify(folder) == manifest
    assert manifest.parents == {"data": read_manifest(data / "split").digest}
    assert manifest.metrics == {"samples": 24, "verdicts": 1, "corrected": 1, "discarded": 0}
    assert [(s.text, s.label) for s in read(folder / CORRECTED)] == [(WRONG, ANIMAL)]
    (line,) = (folder / VERDICTS).read_text().splitlines()
    assert json.loads(line) == {**asdict(corrected(data)[0]), "people": ["3", "4"]}


def test_a_discarded_sample_is_in_no_version(data: Path, tmp_path: Path) -> None:
    discarded = [replace(corrected(data)[0], new="", kind="discard")]
    folder, manifest = write_version(discarded, data / "prepared", data / "split", tmp_path, "category")
    assert (manifest.metrics["samples"], manifest.metrics["discarded"], manifest.metrics["corrected"]) == (23, 1, 0)
    assert WRONG not in (folder / "metadata.jsonl").read_text()


def test_the_same_verdicts_write_nothing_new_and_a_damaged_version_is_named(data: Path, tmp_path: Path) -> None:
    folder, manifest = write_version(corrected(data), data / "prepared", data / "split", tmp_path, "category")
    before = (folder / VERDICTS).stat().st_mtime_ns
    assert write_version(corrected(data), data / "prepared", data / "split", tmp_path, "category") == (folder, manifest)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / VERDICTS).stat().st_mtime_ns == before
    (folder / VERDICTS).write_text("")
    with pytest.raises(ArtifactError, match=r"verdicts\.jsonl was changed"):
        write_version(corrected(data), data / "prepared", data / "split", tmp_path, "category")


def test_what_a_killed_run_left_is_no_version(data: Path, tmp_path: Path) -> None:
    folder, manifest = write_version(corrected(data), data / "prepared", data / "split", tmp_path, "category")
    folder.rename(tmp_path / ".partial")  # as far as a run may come that is killed
    assert write_version(corrected(data), data / "prepared", data / "split", tmp_path, "category") == (folder, manifest)


def test_the_pipeline_takes_a_version_and_people_know_its_samples_again(data: Path, tmp_path: Path) -> None:
    folder, _ = write_version(corrected(data), data / "prepared", data / "split", tmp_path, "category")
    second = write_data(folder, tmp_path / "second")
    old, new = ({identity(s): s for s in iterate(d / "clean" / SAMPLES)} for d in (data, second))
    assert old.keys() == new.keys()
    assert [i for i in old if old[i].label != new[i].label] == [wrong_id(data)]
    assert {s.meta["licence"] for s in new.values()} == {"CC0"}
    # What the next version is made from is the same again: the corrections converge.
    unchanged = [replace(v, old=v.new) for v in corrected(data)]
    again, manifest = write_version(unchanged, second / "prepared", second / "split", tmp_path, "category")
    assert (again / "metadata.jsonl").read_bytes() == (folder / "metadata.jsonl").read_bytes()
    assert manifest.metrics["corrected"] == 0


def test_labels_of_another_source_than_the_data_versions_are_refused(data: Path, tmp_path: Path) -> None:
    assert len(prepared_labels(data / "prepared", data / "split", "category")) == 24
    (tmp_path / SAMPLES).write_bytes((data / "prepared" / SAMPLES).read_bytes())
    (tmp_path / SOURCES).write_text('{"metadata.jsonl": "other"}')
    with pytest.raises(StageError, match="was not made from"):
        prepared_labels(tmp_path, data / "split", "category")


def test_settled_captions_are_the_highest_tiers_and_change_nothing_else(data: Path, tmp_path: Path) -> None:
    def says(tier: Tier, person: str, label: str, words: str) -> RecordedAnswer:
        return replace(record(1, tier, person, label), why=words)

    given = [
        says(Tier.ANNOTATE, "3", CHANGE, "a pony"),
        says(Tier.ANNOTATE, "4", CHANGE, "a horse"),
        says(Tier.REVIEW, "7", CHANGE, "a brown horse"),
    ]
    captions = prepared_labels(data / "prepared", data / "split", "caption")
    kept = next(i for i, text in captions.items() if text == "apple")
    done = [task(1, wrong_id(data), State.DONE, CHANGE), task(2, kept, State.DONE, KEEP)]
    moves = [move(1, 3, MoveKind.ACCEPT, "7", CHANGE), move(2, 3, MoveKind.AGREE, "4", KEEP)]
    settled, _ = verdicts(done, {1: given}, moves, captions, "caption")
    assert {(v.old, v.new) for v in settled} == {(WRONG, "a brown horse"), ("apple", "apple")}
    folder, manifest = write_version(settled, data / "prepared", data / "split", tmp_path, "caption")
    assert (manifest.metrics["corrected"], manifest.parameters) == (1, {"template": "caption"})
    assert [(s.text, s.label) for s in read(folder / CORRECTED)] == [("a brown horse", FOOD)]
    second = write_data(folder, tmp_path / "second")
    assert "a brown horse" in {s.text for s in iterate(second / "clean" / SAMPLES)}


def test_what_is_rated_bad_is_left_out_and_what_is_fair_stays(data: Path, tmp_path: Path) -> None:
    rated = [replace(corrected(data)[0], old="", new=BAD)]
    _, manifest = write_version(rated, data / "prepared", data / "split", tmp_path, "rating")
    assert (manifest.metrics["samples"], manifest.metrics["discarded"]) == (23, 1)
    fair = [replace(rated[0], new="fair")]
    _, manifest = write_version(fair, data / "prepared", data / "split", tmp_path, "rating")
    assert (manifest.metrics["samples"], manifest.metrics["corrected"]) == (24, 0)
