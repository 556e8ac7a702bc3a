"""The annotation flows on a real Label Studio server and a temporary Prefect server; the people are SIMULATED."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from filelock import FileLock

from components.annotation import label_studio, task_store
from components.annotation.batch import identity
from components.annotation.label_studio import TOKEN, Project
from components.annotation.task_store import Task
from components.annotation.workflow import State
from components.config import Params, load
from components.data.sample import iterate
from components.events.database import opened
from components.stage import StageError
from flows import annotate, commands, labelling_server
from flows.annotate import BUSY
from tests.components.annotation.simulated import (
    BEASTS,
    SimulatedAnnotator,
    another_account,
    settings,
    write_data,
    write_set,
)
from tests.label_studio_server import Server
from tests.tiny_image import write_tiny_encoder

ANIMAL, FOOD = "Animals & Nature", "Food & Drink"


def truth(text: str) -> str:
    return ANIMAL if text in BEASTS else FOOD


@dataclass
class Labelling:
    """A project with its people, and the data that the flows work on."""

    server: Server
    params: Params
    data: Path
    people: dict[str, SimulatedAnnotator] = field(default_factory=dict)

    def tasks(self) -> list[Task]:
        with opened(self.params.events.url) as engine:
            return task_store.read_tasks(engine, label_studio.title(self.params.annotation))

    def texts(self, *states: State) -> list[str]:
        names = {identity(s): s.text for f in (self.data / "split").glob("*.parquet") for s in iterate(f)}
        return [names[task.sample] for task in self.tasks() if task.state in states]

    def versions(self) -> dict[str, dict[str, str]]:
        """The verdicts in each data version, by sample."""
        found = {}
        for path in (self.data / "annotated").glob("*/verdicts.jsonl"):
            rows = map(json.loads, path.read_text().splitlines())
            found[path.parent.name] = {row["sample_id"]: row["new"] for row in rows}
        return found

    def settled(self) -> dict[str, str]:
        return {task.sample: task.label for task in self.tasks() if task.label}


@pytest.fixture
def labelling(
    label_studio: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Labelling]:
    """A project named after the test; two annotators, a reviewer and an arbiter, who are those of other tests too."""
    monkeypatch.setenv(TOKEN, label_studio.token)
    section = settings(label_studio.url, request.node.name[5:30], batch=8)
    params = load()
    here = Labelling(label_studio, params, write_data(write_set(tmp_path / "set"), tmp_path / "data/image"))
    Project(section).ensure([ANIMAL, FOOD])
    for name in ("ann", "bob", "review", "arbiter"):
        here.people[name] = SimulatedAnnotator(another_account(label_studio, name), Project(section))
    roles = {"reviewers": (here.people["review"].number,), "arbiters": (here.people["arbiter"].number,)}
    section = section.model_copy(update={"tiers": section.tiers.model_copy(update=roles)})
    events = params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})
    here.params = params.model_copy(update={"annotation": section, "events": events})
    monkeypatch.setattr(annotate, "ROOT", tmp_path)
    monkeypatch.setattr(annotate, "DATA", here.data)
    monkeypatch.setattr(annotate, "LOCK", tmp_path / "annotate.lock")
    monkeypatch.setattr(annotate, "ENCODER", write_tiny_encoder(tmp_path / "encoder"))
    monkeypatch.setattr(annotate, "load", lambda: here.params)
    yield here


@pytest.mark.usefixtures("assets", "prefect_server")
@pytest.mark.timeout(900)  # the first run on a machine installs the server
def test_people_label_review_and_the_version_holds_just_their_verdicts(labelling: Labelling) -> None:
    assert annotate.upload().startswith("8 new tasks, 0 moved to another tab; now ")
    assert annotate.upload().startswith("0 new tasks, 0 moved")
    ordinary = sum(not task.gold for task in labelling.tasks())  # how many can be gold depends on the encoder
    told = annotate.reconcile()
    assert "0 new answers" in told and "nothing is settled yet" in told

    asked = labelling.texts(State.ANNOTATE)
    for name in ("ann", "bob"):
        for text in asked:
            labelling.people[name].answer(text, truth(text))
    told = annotate.reconcile()
    assert f"{2 * len(asked)} new answers, 0 edited, 0 deleted, 0 refused" in told
    in_review = labelling.texts(State.REVIEW)
    assert len(in_review) == ordinary and labelling.versions() == {}

    for text in in_review:
        labelling.people["review"].answer(text, truth(text))
    told = annotate.reconcile()
    assert f"{ordinary} verdicts" in told and "8 new tasks" in told
    ((name, verdicts),) = labelling.versions().items()
    assert verdicts == labelling.settled() and len(verdicts) == ordinary
    assert f"path: data/image/annotated/{name}" in told
    fresh = labelling.texts(State.ANNOTATE)
    assert not set(fresh) & set(in_review)

    told = annotate.reconcile()  # nothing new: nothing twice
    assert "0 new answers" in told and "0 new tasks, 0 moved" in told
    assert labelling.versions().keys() == {name}


@pytest.mark.usefixtures("assets", "prefect_server")
@pytest.mark.timeout(900)
def test_disputes_reach_the_arbiter_and_a_later_edit_takes_the_verdict_out_of_the_next_version(
    labelling: Labelling,
) -> None:
    annotate.upload()
    ordinary = [task.sample for task in labelling.tasks() if not task.gold]
    names = {identity(s): s.text for f in (labelling.data / "split").glob("*.parquet") for s in iterate(f)}
    disputed, edited = (names[sample] for sample in ordinary[:2])
    people = labelling.people
    for text in (disputed, edited):
        people["ann"].answer(text, truth(text))
    people["bob"].answer(disputed, "Robots")
    number = people["bob"].answer(edited, truth(edited))
    own = people["review"].answer(disputed, truth(disputed))  # before it is in review: an annotation
    told = annotate.reconcile()
    assert "4 new answers" in told and "1 refused" in told
    assert sorted(labelling.texts(State.REVIEW)) == sorted([disputed, edited])

    people["review"].edit(own, FOOD if truth(disputed) == ANIMAL else ANIMAL)  # still no review of their own work
    people["review"].answer(edited, FOOD if truth(edited) == ANIMAL else ANIMAL)
    annotate.reconcile()
    assert labelling.texts(State.ARBITRATE) == [edited]
    shown = {task.data["text"]: (task.data["tier"], task.data["note"]) for task in people["arbiter"].tasks()}
    assert shown[edited][0] == "arbitrate" and "the reviewer: " in shown[edited][1]
    people["arbiter"].answer(edited, truth(edited), "it is plain")
    annotate.reconcile()
    assert list(labelling.settled().values()) == [truth(edited)]
    (first,) = labelling.versions().values()
    assert first == labelling.settled()

    people["bob"].edit(number, "Robots")
    told = annotate.reconcile()
    assert "1 edited" in told and "nothing is settled yet" in told
    assert labelling.settled() == {}


@pytest.mark.usefixtures("assets", "prefect_server")
@pytest.mark.timeout(900)
def test_a_project_deleted_by_hand_loses_no_verdict_and_its_open_tasks_are_sent_again(labelling: Labelling) -> None:
    annotate.upload()
    for text in labelling.texts(State.ANNOTATE)[:4]:
        for name in ("ann", "bob"):
            labelling.people[name].answer(text, truth(text))
    annotate.reconcile()
    for text in labelling.texts(State.REVIEW):
        labelling.people["review"].answer(text, truth(text))
    annotate.reconcile()
    before = labelling.settled(), labelling.versions()
    assert before[0]
    ann = labelling.people["ann"]
    ann.client.projects.delete(ann.project.id)
    with pytest.raises(StageError, match="never created, or deleted; run `atelier label upload`"):
        annotate.reconcile()
    still = sum(task.state in (State.ANNOTATE, State.REVIEW) for task in labelling.tasks())
    assert annotate.upload().startswith(f"{still} new tasks, ")
    assert "0 new answers, 0 edited, 0 deleted" in annotate.reconcile()
    assert (labelling.settled(), labelling.versions()) == before


@pytest.mark.usefixtures("assets", "prefect_server")
@pytest.mark.timeout(900)
def test_of_two_at_once_one_works_and_the_other_says_so(labelling: Labelling) -> None:
    annotate.upload()
    with FileLock(annotate.LOCK):
        assert annotate.reconcile() == BUSY == annotate.upload()
    assert "0 new answers" in annotate.reconcile()


@pytest.mark.usefixtures("assets", "prefect_server")
@pytest.mark.timeout(900)
def test_who_guesses_and_gold_that_is_contradicted_are_named(labelling: Labelling) -> None:
    known = [s for f in (labelling.data / "split").glob("*.parquet") for s in iterate(f)][:12]
    gold = {identity(s): truth(s.text) for s in known}
    wrong = known[0]
    gold[identity(wrong)] = FOOD if truth(wrong.text) == ANIMAL else ANIMAL
    with opened(labelling.params.events.url) as engine:
        task_store.add_tasks(engine, label_studio.title(labelling.params.annotation), gold, "lead")
    annotate.upload()
    for name in ("ann", "bob", "arbiter"):
        for sample in known[:8]:
            labelling.people[name].answer(sample.text, truth(sample.text))
    for sample in known:  # always the other one: worse than by chance
        labelling.people["review"].answer(sample.text, FOOD if truth(sample.text) == ANIMAL else ANIMAL)
    told = annotate.reconcile()
    assert f"account {labelling.people['review'].number} is right" in told
    assert f"gold sample {identity(wrong)}: {gold[identity(wrong)]!r} is contradicted" in told
    assert labelling.settled() == {}


@pytest.mark.usefixtures("assets", "prefect_server")
@pytest.mark.timeout(900)
def test_captions_that_people_correct_become_a_version(
    labelling: Labelling, label_studio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = labelling.params.annotation.tiers
    captions = settings(label_studio.url, "captions", 4, "caption").model_copy(update={"tiers": tiers})
    labelling.params = labelling.params.model_copy(update={"annotation": captions})
    assert annotate.upload().startswith("4 new tasks")
    people = {
        name: SimulatedAnnotator(Server(label_studio.url, one.token), Project(captions))
        for name, one in labelling.people.items()
    }
    first, *others = labelling.texts(State.ANNOTATE)
    for name in ("ann", "bob"):
        people[name].write(first, f"a better {first}" if name == "ann" else f"a much better {first}")
        for text in others:
            people[name].write(text, text)
    annotate.reconcile()
    assert len(labelling.texts(State.REVIEW)) == 4
    people["review"].write(first, f"the best {first}")
    told = annotate.reconcile()
    assert "1 verdicts: 1 samples corrected, 0 left out" in told
    ((_, verdicts),) = labelling.versions().items()
    assert list(verdicts.values()) == [f"the best {first}"]


@pytest.mark.usefixtures("prefect_server")
def test_where_nobody_labels_the_schedule_has_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load()
    events = params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})
    monkeypatch.setattr(annotate, "load", lambda: params.model_copy(update={"events": events}))
    assert annotate.reconcile() == "nobody labels yet: `atelier label upload` opens the project"


def test_without_a_token_the_commands_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.setattr(labelling_server, "TOKEN_FILE", tmp_path / "none")
    with pytest.raises(StageError, match=f"{TOKEN} is not set; copy a token from Account & Settings"):
        commands.require_label_studio()
