"""The project on a real Label Studio server: made once, filled once, read back; answers by a SIMULATED annotator."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from components.annotation import label_studio as module
from components.annotation.label_studio import TOKEN, Project, chosen, fill, template_version
from components.annotation.prelabel import PROPOSED_BY, tasks
from components.stage import StageError
from tests.components.annotation.simulated import WRONG, SimulatedAnnotator, embed, settings
from tests.label_studio_server import Server

ANIMAL, FOOD = "Animals & Nature", "Food & Drink"
on_a_server = pytest.mark.timeout(900)  # the first run on a machine installs the server


@pytest.fixture
def token(label_studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, label_studio.token)


@on_a_server
def test_tasks_go_up_once_pre_labelled_and_answers_come_back(label_studio: Server, token: None, data: Path) -> None:
    categories, wanted = tasks(data / "split", embed, 6)
    for _ in range(2):
        project = Project(settings(label_studio.url, "whole loop"))
        project.ensure(categories)
        uploaded = project.upload(wanted)
    assert uploaded == 0
    simulated = SimulatedAnnotator(label_studio, project)
    found = simulated.tasks()
    assert sorted(task.data["text"] for task in found) == sorted(task.text for task in wanted)
    (prediction,) = next(task.predictions for task in found if task.data["text"] == WRONG)
    assert (prediction.model_version, prediction.score, chosen(prediction.result)) == (PROPOSED_BY, 0.0, FOOD)
    assert project.answers() == []
    others = [task.text for task in wanted if task.text != WRONG]
    simulated.answer(WRONG, FOOD)
    simulated.answer(WRONG, ANIMAL)
    simulated.skip(others[0])
    simulated.answer(others[1], "Robots")
    answers = {(a.sample_id, a.category) for a in project.answers()}
    ids = {task.text: task.sample_id for task in wanted}
    assert answers == {(ids[WRONG], FOOD), (ids[WRONG], ANIMAL), (ids[others[1]], "Robots")}
    assert project.categories() == {ANIMAL, FOOD}


@on_a_server
def test_an_upload_killed_half_way_is_completed_by_the_next(
    label_studio: Server, token: None, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    categories, wanted = tasks(data / "split", embed, 6)
    project = Project(settings(label_studio.url, "killed half-way"))
    project.ensure(categories)
    monkeypatch.setattr(module, "_CHUNK", 2)  # and so the tasks are read back in three pages
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
    with pytest.raises(StageError, match=r"no project 'grows \(category 1\)' at http.*run `atelier annotate upload`"):
        project.upload([])
    project.ensure([FOOD])
    project.ensure([ANIMAL, "Objects"])
    assert project.categories() == {FOOD, ANIMAL, "Objects"}
    simulated = SimulatedAnnotator(label_studio, project)
    simulated.client.projects.delete(simulated.project.id)
    with pytest.raises(StageError, match="never created, or deleted"):
        project.answers()


@on_a_server
def test_a_project_deleted_while_it_is_read_is_no_short_list_of_answers(
    label_studio: Server, token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(settings(label_studio.url, "vanishes"))
    project.ensure([FOOD, ANIMAL])
    simulated = SimulatedAnnotator(label_studio, project)
    monkeypatch.setattr(project, "_find", lambda: simulated.project)
    simulated.client.projects.delete(simulated.project.id)
    with pytest.raises(StageError, match="was deleted meanwhile"):
        project.answers()


@on_a_server
def test_a_personal_access_token_is_as_good_as_a_legacy_one(
    label_studio: Server, token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(settings(label_studio.url, "personal"))
    project.ensure([FOOD, ANIMAL])
    personal = SimulatedAnnotator(label_studio, project).client.tokens.create().token
    monkeypatch.setenv(TOKEN, personal)
    assert Project(settings(label_studio.url, "personal")).categories() == {FOOD, ANIMAL}


@on_a_server
def test_a_wrong_token_is_named_and_not_shown(label_studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "not-the-token")
    with pytest.raises(StageError, match=rf"refuses the token in {TOKEN} \(401\)") as caught:
        Project(settings(label_studio.url, "refused")).answers()
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
            Project(settings(url, "nowhere")).answers()


def test_a_template_is_filled_with_escaped_choices_and_names_its_version() -> None:
    assert fill("<!-- choices -->", ['a & "b"']) == '<Choice value="a &amp; &quot;b&quot;"/>'
    assert template_version("<!-- version 12: why -->") == 12
    with pytest.raises(StageError, match="names no version"):
        template_version("<View/>")


@pytest.mark.parametrize(
    ("result", "category"),
    [
        ([{"from_name": "category", "value": {"choices": ["a"]}}], "a"),
        ([{"from_name": "category", "value": {"choices": ["a", "b"]}}], ""),
        ([{"from_name": "other", "value": {"choices": ["a"]}}], ""),
        ([{"type": "relation"}], ""),
        ([], ""),
    ],
)
def test_only_one_choice_of_the_templates_own_control_is_an_answer(result: list[Any], category: str) -> None:
    assert chosen(result) == category
