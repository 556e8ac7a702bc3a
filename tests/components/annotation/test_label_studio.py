"""The project on a real Label Studio server: made once, filled once, read back; answers by a SIMULATED annotator."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from components.annotation import label_studio as module
from components.annotation.batch import Proposal, tasks
from components.annotation.label_studio import PROPOSED_BY, TABS, TOKEN, Project, Shown, Task
from components.annotation.template import LABELS, chosen
from components.data.sample import iterate
from components.stage import StageError
from tests.components.annotation.simulated import WRONG, SimulatedAnnotator, settings
from tests.label_studio_server import Server

ANIMAL, FOOD = "Animals & Nature", "Food & Drink"
on_a_server = pytest.mark.timeout(900)  # the first run on a machine installs the server


@pytest.fixture
def token(label_studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, label_studio.token)


def six(data: Path) -> list[Task]:
    """Six samples, the one with the wrong label among them, each with its own label proposed."""
    samples = [s for file in sorted((data / "split").glob("*.parquet")) for s in iterate(file)]
    chosen_ones = sorted(samples, key=lambda s: (s.text != WRONG, s.id))[:6]
    return tasks(data / "split", {s.id: Proposal(s.label, 0.8) for s in chosen_ones})


def begun(server: Server, name: str) -> Project:
    project = Project(settings(server.url, name))
    project.ensure([ANIMAL, FOOD])
    return project


@on_a_server
def test_tasks_go_up_once_pre_labelled_and_answers_come_back(label_studio: Server, token: None, data: Path) -> None:
    wanted = six(data)
    for uploaded in (6, 0):
        project = Project(settings(label_studio.url, "whole loop"))
        address = project.ensure([ANIMAL, FOOD])
        assert project.upload(wanted) == uploaded
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


@on_a_server
def test_a_reading_goes_on_where_the_last_one_ended(
    label_studio: Server, token: None, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = six(data)
    project = begun(label_studio, "incremental")
    project.upload(wanted)
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
def test_a_task_moves_to_the_tab_of_its_tier_and_only_there_is_it_offered(
    label_studio: Server, token: None, data: Path
) -> None:
    wanted = six(data)
    project = Project(settings(label_studio.url, "tabs"))
    for _ in range(2):
        project.ensure([ANIMAL, FOOD])
    project.upload(wanted)
    simulated = SimulatedAnnotator(label_studio, project)
    simulated.answer(WRONG, ANIMAL)
    sample = next(task.sample_id for task in wanted if task.text == WRONG)
    project.show(project.numbers()[sample], Shown("review", "Animals: 2"), ANIMAL, "", 0.9)
    views = simulated.client.views.list(project=simulated.project.id)
    assert sorted(view.data["title"] for view in views) == sorted(TABS.values())
    inside = {view.data["title"]: list(simulated.client.tasks.list(view=view.id)) for view in views}
    assert {name: len(there) for name, there in inside.items()} == {"1 annotate": 5, "2 review": 1, "3 arbitrate": 0}
    (reviewed,) = inside["2 review"]
    assert (reviewed.data["text"], reviewed.data["note"]) == (WRONG, "Animals: 2")
    assert reviewed.data["image"].startswith("data:image/png")
    (prediction,) = next(task.predictions for task in simulated.tasks() if task.data["text"] == WRONG)
    assert (chosen(prediction.result), prediction.score) == (ANIMAL, 0.9)
    assert [len(p.answers) for p in project.read("").tasks if p.sample_id == sample] == [1]


@on_a_server
@pytest.mark.parametrize("name", ["caption", "rating"])
def test_the_other_templates_are_projects_too_and_their_answers_are_read(
    label_studio: Server, token: None, data: Path, name: Literal["caption", "rating"]
) -> None:
    project = Project(settings(label_studio.url, f"other {name}", template=name))
    for _ in range(2):
        project.ensure(LABELS[name])
    assert project.categories() == set(LABELS[name])
    project.upload([replace(task, category="") for task in six(data)])
    simulated = SimulatedAnnotator(label_studio, project)
    if name == "caption":
        simulated.write(WRONG, "a horse")
    else:
        simulated.answer(WRONG, "bad", "too dark")
    (answer,) = [answer for polled in project.read("").tasks for answer in polled.answers]
    assert (answer.category, answer.why) == {"caption": ("change", "a horse"), "rating": ("bad", "too dark")}[name]


@on_a_server
def test_an_upload_killed_half_way_is_completed_by_the_next(
    label_studio: Server, token: None, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = six(data)
    project = begun(label_studio, "killed half-way")
    monkeypatch.setattr(module, "_CHUNK", 2)
    monkeypatch.setattr(module, "_PAGE", 2)
    sent = project._client.projects.import_tasks
    calls: list[Any] = []

    def killed(*arguments: Any, **named: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        sent(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(project._client.projects, "import_tasks", killed)
        project.upload(wanted)
    assert project.upload(wanted) == 2
    assert len(SimulatedAnnotator(label_studio, project).tasks()) == 6


@on_a_server
def test_a_new_category_joins_the_project_and_a_deleted_project_is_named(label_studio: Server, token: None) -> None:
    project = Project(settings(label_studio.url, "grows"))
    with pytest.raises(StageError, match=r"no project 'grows \(category 2\)' at http.*run `atelier annotate upload`"):
        project.upload([])
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


def test_a_missing_token_and_a_server_that_is_down_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.delenv(TOKEN, raising=False)
        with pytest.raises(StageError, match=f"{TOKEN} is not set"):
            Project(settings(url, "nowhere"))
        monkeypatch.setenv(TOKEN, "any")
        with pytest.raises(StageError, match=f"Label Studio at {url} does not answer"):
            Project(settings(url, "nowhere")).read("")
