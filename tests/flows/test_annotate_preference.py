"""From users' phrases through a real Label Studio to training samples that say what not to write.

The people are SIMULATED. Of the champion's answers a tiny model with random weights writes the missing ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from components.annotation import comparisons, label_studio, phrase_queue, task_store
from components.annotation.comparisons import Candidate, Comparison, ComparisonSource
from components.annotation.label_studio import TOKEN, Project
from components.annotation.template import Choice
from components.artifact import read_manifest
from components.config import Clean, Params, Prepare, Split
from components.data import feedback
from components.data.clean import clean
from components.data.pairs import Pair, read_pairs
from components.data.prepare import prepare
from components.data.split import SIDES, split
from components.events.database import opened
from components.events.schema import Event
from components.events.store import commit
from components.learning import data_version
from components.learning.harvest import is_held_out
from components.paths import FEEDBACK
from components.stage import StageError
from flows import annotate, learn, release, stack
from tests.components.annotation.simulated import SimulatedAnnotator, another_account, settings
from tests.components.events.examples import DEPLOYMENT, accepted, finished, like
from tests.label_studio_server import Server
from tests.monitoring.test_report import params_in
from tests.tiny_language import write_tiny_base, write_tiny_export


@pytest.fixture(scope="session")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("champion")
    return write_tiny_export(write_tiny_base(folder / "base"), folder / "export")


@dataclass
class Answers:
    """A service's answers and what flows make of them, all in one folder."""

    params: Params
    folder: Path
    people: dict[str, SimulatedAnnotator] = field(default_factory=dict)

    def write(self, *events: Event) -> None:
        with opened(self.params.events.url) as engine:
            commit(engine, events)

    def answered(self, identifier: str, phrase: str, output: str, user: str) -> None:
        at = time.time() - 60
        self.write(accepted(identifier, at=at, user=user), finished(identifier, prompt=phrase, output=output))

    def compared(self) -> dict[str, Comparison]:
        """Every comparison by its phrase."""
        with opened(self.params.events.url) as engine:
            return {one.phrase: one for one in comparisons.read_comparisons(engine).values()}

    def preferences(self) -> list[dict[str, Any]]:
        """What the learned version holds of settled comparisons."""
        return [json.loads(line) for line in (learn.FOLDER / data_version.PREFERENCES).read_text().splitlines()]

    def samples(self) -> list[Pair]:
        """The pairs of the split that the line's own stages make of what was learned, of all sides."""
        own = [{"prompt": f"draw number {n}", "completion": f"{n}: digits"} for n in range(40)]
        (self.folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
        data = self.folder / "data/text"
        prepare("text", Prepare(source="jsonl", path=Path("own.jsonl")), data / "prepared")
        bounds = Clean(low_percentile=0, high_percentile=100, max_pixels=2**20, min_side=8)
        clean("text", bounds, data / "prepared", data / "clean")
        shares = Split(seed=7, validation=0.05, test=0.1, near_duplicate_similarity=0.8)
        split("text", shares, data / "clean", data / "split")
        return [pair for side in SIDES for pair in read_pairs(data / "split" / f"{side}.parquet")]


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, champion: Path) -> Answers:
    params = params_in(tmp_path)
    rules = params.learning.model_copy(update={"min_new": 1, "min_likes": 1})
    section = params.annotation.model_copy(update={"template": "preference"})
    here = Answers(params.model_copy(update={"learning": rules, "annotation": section}), tmp_path)
    for module in (annotate, learn):
        monkeypatch.setattr(module, "load", lambda: here.params)
    monkeypatch.setattr(annotate, "LOCK", tmp_path / "annotate.lock")
    monkeypatch.setattr(learn, "FOLDER", tmp_path / FEEDBACK / "text")
    monkeypatch.setattr(stack, "served", lambda *_: DEPLOYMENT)
    monkeypatch.setattr(release, "champion_folder", lambda *_: champion)
    monkeypatch.chdir(tmp_path)
    return here


@pytest.fixture
def labelling(
    answers: Answers, label_studio: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Answers]:
    """With a project of its own, three annotators, a reviewer and an arbiter."""
    monkeypatch.setenv(TOKEN, label_studio.token)
    section = settings(label_studio.url, request.node.name[5:30], batch=4, template="preference")
    Project(section).ensure(ComparisonSource.labels)
    for name in ("ann", "bob", "cat", "review", "arbiter"):
        answers.people[name] = SimulatedAnnotator(another_account(label_studio, name), Project(section))
    tiers = {"reviewers": (answers.people["review"].number,), "arbiters": (answers.people["arbiter"].number,)}
    section = section.model_copy(update={"tiers": section.tiers.model_copy(update={**tiers, "certain": 0.99})})
    answers.params = answers.params.model_copy(update={"annotation": section})
    yield answers


def user(answers: Answers, held_out: bool) -> str:
    names = (f"u{n}" for n in range(1000))
    return next(name for name in names if is_held_out(name, answers.params.learning) is held_out)


def users_phrases(answers: Answers) -> None:
    """One phrase is answered in two ways, one disliked, one waits for an annotator, one is a held-out user's."""
    teacher = user(answers, held_out=False)
    answers.answered("r1", "a boat", "boat: sea, ship", teacher)
    answers.answered("r2", "A  boat", "boat: toy", teacher)
    answers.answered("r3", "a hen", "egg", teacher)
    answers.write(like("r3", "k", user=teacher, value=0.0))
    answers.answered("r4", "a secret", "whisper", user(answers, held_out=True))
    with opened(answers.params.events.url) as engine:
        phrase_queue.enqueue(
            engine, [phrase_queue.phrase_task("ein Boot", "boot: shoe", "unlike the training data")], 1.0
        )


def side(comparison: Comparison, output: str) -> str:
    return Choice.LEFT if comparison.left == output else Choice.RIGHT


def other(choice: str) -> str:
    return Choice.RIGHT if choice == Choice.LEFT else Choice.LEFT


def three_tiers(labelling: Answers, boats: str, hens: str) -> int:
    """All agree on the boat and that no answer to the queued phrase is good; the hen goes to the arbiter.

    Returns the number of the annotation that lost.
    """
    people = labelling.people
    for name in ("ann", "bob"):
        people[name].answer("a boat", boats)
        people[name].answer("ein Boot", Choice.BOTH_BAD)
    people["ann"].answer("a hen", hens)
    edited = people["bob"].answer("a hen", other(hens), "an egg is no hen")
    assert "6 new answers, 0 edited, 0 deleted, 0 refused\nnothing is settled yet" in annotate.reconcile()
    people["cat"].answer("a hen", hens)  # who disagree are joined by a third
    annotate.reconcile()
    notes = {task.data["text"]: task.data["note"] for task in people["review"].tasks()}
    assert "an egg is no hen" in notes["a hen"]
    people["review"].answer("a boat", boats)
    people["review"].answer("ein Boot", Choice.BOTH_BAD, "neither is a boat")
    people["review"].answer("a hen", other(hens))
    assert f"2 settled (1 {boats}, 1 both bad): 1 pairs" in annotate.reconcile()
    people["arbiter"].answer("a hen", hens, "the other one is noise")
    assert "3 settled" in annotate.reconcile()
    assert "0 new answers" in annotate.reconcile()
    return edited


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.timeout(900)
def test_what_people_prefer_becomes_training_samples_with_what_they_rejected(labelling: Answers) -> None:
    users_phrases(labelling)
    assert annotate.upload().startswith("3 new tasks, 0 moved to another tab; now 3 annotate\nlabel at ")
    assert annotate.upload().startswith("0 new tasks")
    compared = labelling.compared()
    assert compared.keys() == {"a boat", "a hen", "ein Boot"}
    boat, hen = compared["a boat"], compared["a hen"]
    assert {boat.left, boat.right} == {"boat: sea, ship", "boat: toy"}
    assert {hen.left_origin, hen.right_origin} == {"response r3 of text-1", "text-1 at temperature 0.7, seed 0"}
    shown = {task.data["text"]: task for task in labelling.people["ann"].tasks()}
    assert (shown["a hen"].data["left"], shown["a hen"].data["right"]) == (hen.left, hen.right)
    assert not shown["a hen"].predictions and "r3" not in str(shown["a hen"].data)

    boats, hens = side(boat, "boat: sea, ship"), side(hen, "egg")
    lost = three_tiers(labelling, boats, hens)
    assert learn.write_version.fn(labelling.params)["preferences"] == 3
    learned = [pair for pair in labelling.samples() if pair.learned]
    assert {(pair.phrase, pair.completion, pair.rejected) for pair in learned} == {
        ("a boat", "boat: sea, ship", "boat: toy"),
        ("a hen", "egg", hen.right if hens == Choice.LEFT else hen.left),
    }
    trained_on = read_pairs(labelling.folder / "data/text/split/train.parquet")
    assert {pair.phrase for pair in trained_on if pair.rejected} == {"a boat", "a hen"}
    parents = read_manifest(labelling.folder / "data/text/split").parents
    assert parents["feedback"] == feedback.digest(learn.FOLDER)
    record = {row["comparison"]["phrase"]: row for row in labelling.preferences()}
    assert (record["ein Boot"]["choice"], record["ein Boot"]["why"]) == (Choice.BOTH_BAD, "neither is a boat")
    assert set(record["a boat"]["people"]) == {labelling.people[name].number for name in ("ann", "bob", "review")}
    assert [record[phrase]["kind"] for phrase in ("a boat", "a hen")] == ["accept", "decide"]

    labelling.people["bob"].edit(lost, Choice.SAME)  # after all that
    assert "1 edited" in annotate.reconcile()
    learn.write_version.fn(labelling.params)
    assert [pair.phrase for pair in labelling.samples() if pair.learned] == ["a boat"]
    assert read_manifest(labelling.folder / "data/text/split").parents["feedback"] != parents["feedback"]


def test_a_phrase_that_the_model_answers_in_one_way_only_is_asked_of_nobody_and_not_tried_again(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.answered("r1", "a car", "car", user(answers, held_out=False))
    tried: list[str] = []

    def generate(_: Params, phrases: list[str]) -> list[Candidate]:
        tried.extend(phrases)
        return [Candidate(phrase, "car", "text-1, seed 0") for phrase in phrases]

    monkeypatch.setattr(annotate, "generate", generate)
    with opened(answers.params.events.url) as engine:
        for _ in range(2):
            annotate.comparison_source(answers.params, engine, []).add_batch()
        assert task_store.read_tasks(engine, label_studio.title(answers.params.annotation)) == []
    assert tried == ["a car"]


def test_a_comparison_that_a_killed_run_kept_without_its_task_gets_one_from_the_next(answers: Answers) -> None:
    kept = Comparison("0a", "a boat", "boat: sea", "boat: toy", "r1", "r2")
    with opened(answers.params.events.url) as engine:
        comparisons.store_comparisons(engine, [kept])
        annotate.comparison_source(answers.params, engine, []).add_batch()
        (task,) = task_store.read_tasks(engine, label_studio.title(answers.params.annotation))
        source = annotate.comparison_source(answers.params, engine, [task])
        (shown,) = source.payloads([task, replace(task, sample="deleted by hand")])
    assert task.sample == kept.sample == shown.sample_id


def test_a_second_answer_needs_a_model_that_is_deployed(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "served", lambda *_: None)
    with pytest.raises(
        StageError,
        match="no text model is deployed that could write a second answer; run `atelier release start` first",
    ):
        annotate.generate(answers.params, ["a car"])


def test_the_champion_writes_different_answers(answers: Answers) -> None:
    written = annotate.generate(answers.params, ["a car", "a hen"])
    assert [one.phrase for one in written] == ["a car"] * annotate.DRAWS + ["a hen"] * annotate.DRAWS
    assert len({one.output for one in written}) > 1 and written[1].origin == "text-1 at temperature 0.7, seed 1"
