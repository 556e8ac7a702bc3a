"""The project on a real Label Studio server: made once, filled once, read back; answers by a SIMULATED annotator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from components.annotation import label_studio as module
from components.annotation.batch import Proposal, tasks
from components.annotation.label_studio import Project, Task
from components.annotation.label_studio_client import TOKEN
from components.annotation.label_studio_show import PROPOSED_BY
from components.annotation.template import LABELS, chosen
from components.data.sample import iterate
from components.stage import StageError
from tests.components.annotation.simulated import WRONG, SimulatedAnnotator, settings
from tests.label_studio_server import Server

ANIMAL, FOOD = "Animals & Nature", "Food & Drink"
PLAIN = {"image": "data:image/png;base64,", "text": "by hand", "tier": "", "note": ""}
on_a_server = pytest.mark.timeout(900)  # the first run on a machine installs the server


def six(data: Path) -> list[Task]:
    """Six samples, the one with the wrong label among them, each with its own label proposed."""
    samples = [s for file in sorted((data / "split").glob("*.parquet")) for s in iterate(file)]
    chosen_ones = sorted(samples, key=lambda s: (s.text != WRONG, s.id))[:6]
    return list(tasks(data / "split", {s.id: Proposal(s.label, 0.8) for s in chosen_ones}))


def upload(project: Project, wanted: Sequence[Task]) -> dict[str, int]:
    return {sample: number for some in project.upload(wanted) for sample, number in some.items()}


def begun(server: Server, name: str) -> Project:
    project = Project(settings(server.url, name))
    project.ensure([ANIMAL, FOOD])
    return project


@on_a_server
def test_tasks_go_up_pre_labelled_and_answers_come_back(
    label_studio: Server, token: None, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 4)
    monkeypatch.setattr(module, "_PAGE", 4)
    wanted = six(data)
    for _ in range(2):
        project = Project(settings(label_studio.url, "whole loop"))
        address = project.ensure([ANIMAL, FOOD])
    parts = list(project.upload(wanted))
    assert [len(part) for part in parts] == [4, 2] and project.numbers() == {**parts[0], **parts[1]}
    simulated = SimulatedAnnotator(label_studio, project)
    assert address == f"{label_studio.url}/projects/{simulated.project.id}/data"
    found = simulated.tasks()
    assert sorted(task.data["text"] for task in found) == sorted(task.text for task in wanted)
    (prediction,) = next(task.predictions for task in found if task.data["text"] == WRONG)
    assert (prediction.model_version, prediction.score, chosen(prediction.result)) == (PROPOSED_BY, 0.8, FOOD)
    first = project.read("")
    assert [len(polled.answers) for polled in first.tasks] == [0] * 6
    others = [task.text for task in wanted if task.text != WRONG]
    simulated.answer(WRONG, FOOD)
    simulated.answer(WRONG, ANIMAL, "it neighs")
    simulated.skip(others[0])
    simulated.answer(others[1], "Robots")
    answers = {(a.sample_id, a.category, a.why) for polled in project.read("").tasks for a in polled.answers}
    ids = {task.text: task.sample_id for task in wanted}
    assert answers == {(ids[WRONG], FOOD, ""), (ids[WRONG], ANIMAL, "it neighs"), (ids[others[1]], "Robots", "")}
    assert project.categories() == {ANIMAL, FOOD}
    assert (project.size(), project.numbers().keys()) == (6, set(ids.values()))
    assert {task.data["text"]: task.id for task in found} == {t: project.numbers()[s] for t, s in ids.items()}


@on_a_server
def test_a_reading_goes_on_where_the_last_one_ended(
    label_studio: Server, token: None, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = six(data)
    project = begun(label_studio, "incremental")
    upload(project, wanted)
    simulated = SimulatedAnnotator(label_studio, project)
    monkeypatch.setattr(module, "_LATE", timedelta())
    before = project.read("")
    number = simulated.answer(WRONG, ANIMAL)
    (changed,) = [polled for polled in project.read(before.until).tasks if polled.answers]
    assert changed.answers[0].category == ANIMAL
    after = project.read(before.until)
    simulated.delete(number)
    (emptied,) = [p for p in project.read(after.until).tasks if p.sample_id == changed.sample_id]
    assert (emptied.task, emptied.answers) == (changed.task, ())


@on_a_server
@pytest.mark.parametrize("name", ["caption", "rating"])
def test_the_other_templates_are_projects_too_and_their_answers_are_read(
    label_studio: Server, token: None, data: Path, name: Literal["caption", "rating"]
) -> None:
    project = Project(settings(label_studio.url, f"other {name}", template=name))
    for _ in range(2):
        project.ensure(LABELS[name])
    assert project.categories() == set(LABELS[name])
    upload(project, [replace(task, category="") for task in six(data)])
    simulated = SimulatedAnnotator(label_studio, project)
    if name == "caption":
        simulated.write(WRONG, "a horse")
    else:
        simulated.answer(WRONG, "bad", "too dark")
    (answer,) = [answer for polled in project.read("").tasks for answer in polled.answers]
    assert (answer.category, answer.why) == {"caption": ("change", "a horse"), "rating": ("bad", "too dark")}[name]


@on_a_server
def test_of_a_task_that_an_import_added_twice_the_one_without_answers_goes(
    label_studio: Server, token: None, data: Path
) -> None:
    wanted, project = six(data), begun(label_studio, "doubled")
    first, second = upload(project, wanted), upload(project, wanted[:2])
    annotated = wanted[0].sample_id
    simulated = SimulatedAnnotator(label_studio, project)
    simulated.client.annotations.create(second[annotated], result=[])
    by_hand = [simulated.client.tasks.create(project=simulated.project.id, data=PLAIN).id for _ in range(2)]
    assert project.numbers() == first
    assert {task.id for task in simulated.tasks()} == {*first.values(), second[annotated], *by_hand}


@on_a_server
def test_a_new_category_joins_the_project_and_a_deleted_project_is_named(label_studio: Server, token: None) -> None:
    project = Project(settings(label_studio.url, "grows"))
    with pytest.raises(StageError, match=r"no project 'grows \(category 2\)' at http.*run `atelier label upload`"):
        upload(project, [])
    project.ensure([FOOD])
    project.ensure([ANIMAL, "Objects"])
    assert project.categories() == {FOOD, ANIMAL, "Objects"}
    simulated = SimulatedAnnotator(label_studio, project)
    simulated.client.projects.delete(simulated.project.id)
    with pytest.raises(StageError, match="never created, or deleted"):
        project.read("")


@on_a_server
def test_a_project_deleted_while_it_is_read_is_no_short_list_of_answers(
    label_studio: Server, token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = begun(label_studio, "vanishes")
    simulated = SimulatedAnnotator(label_studio, project)
    monkeypatch.setattr(project, "_find", lambda: simulated.project)
    simulated.client.projects.delete(simulated.project.id)
    with pytest.raises(StageError, match="was deleted meanwhile"):
        project.read("")


@on_a_server
def test_a_personal_access_token_is_as_good_as_a_legacy_one(
    label_studio: Server, token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = begun(label_studio, "personal")
    personal = SimulatedAnnotator(label_studio, project).client.tokens.create().token
    monkeypatch.setenv(TOKEN, personal)
    assert Project(settings(label_studio.url, "personal")).categories() == {FOOD, ANIMAL}


@on_a_server
def test_a_wrong_token_is_named_and_not_shown(label_studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "not-the-token")
    with pytest.raises(StageError, match=rf"refuses the token in {TOKEN} \(401\)") as caught:
        Project(settings(label_studio.url, "refused")).read("")
    assert "not-the-token" not in str(caught.value)
