"""The project on a real Label Studio server: made once, filled once, its tasks moved, read back.

Answers are by a SIMULATED annotator; a server that is down, slow or answers 500 is MADE UP by a proxy in front of it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from components.annotation import label_studio as module
from components.annotation.batch import payloads, samples_of
from components.annotation.label_studio import PROPOSED_BY, TABS, TOKEN, NewTask, Project, TaskUpdate, TaskView
from components.annotation.template import LABELS, chosen
from components.stage import StageError
from tests.components.annotation.faulty import Faulty
from tests.components.annotation.simulated import WRONG, SimulatedAnnotator, settings
from tests.label_studio_server import Server

ANIMAL, FOOD = "Animals & Nature", "Food & Drink"
PLAIN = {"image": "data:image/png;base64,", "text": "by hand", "tier": "", "note": ""}
on_a_server = pytest.mark.timeout(900)  # the first run on a machine installs the server


def six(data: Path) -> list[NewTask]:
    """Six samples, the one with the wrong label among them, each with its own label proposed."""
    chosen_ones = sorted(samples_of(data / "split"), key=lambda s: (s.text != WRONG, s.id))[:6]
    return list(payloads(data / "split", {s.id: (s.label, 0.8) for s in chosen_ones}))


def upload(project: Project, wanted: Sequence[NewTask]) -> dict[str, int]:
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
    assert [len(part) for part in parts] == [4, 2] and project.task_numbers() == {**parts[0], **parts[1]}
    simulated = SimulatedAnnotator(label_studio, project)
    assert address == f"{label_studio.url}/projects/{simulated.project.id}/data"
    found = simulated.tasks()
    assert sorted(task.data["text"] for task in found) == sorted(task.text for task in wanted)
    (prediction,) = next(task.predictions for task in found if task.data["text"] == WRONG)
    assert (prediction.model_version, prediction.score, chosen(prediction.result)) == (PROPOSED_BY, 0.8, FOOD)
    first, _ = project.changed_since("")
    assert [len(task.annotations) for task in first] == [0] * 6
    others = [task.text for task in wanted if task.text != WRONG]
    simulated.answer(WRONG, FOOD)
    simulated.answer(WRONG, ANIMAL, "it neighs")
    simulated.skip(others[0])
    simulated.answer(others[1], "Robots")
    answers = {(a.sample_id, a.category, a.why) for polled in project.changed_since("")[0] for a in polled.annotations}
    ids = {task.text: task.sample_id for task in wanted}
    assert answers == {(ids[WRONG], FOOD, ""), (ids[WRONG], ANIMAL, "it neighs"), (ids[others[1]], "Robots", "")}
    assert project.categories() == {ANIMAL, FOOD}
    assert (project.size(), project.task_numbers().keys()) == (6, set(ids.values()))
    assert {task.data["text"]: task.id for task in found} == {t: project.task_numbers()[s] for t, s in ids.items()}


@on_a_server
def test_a_reading_goes_on_where_the_last_one_ended(
    label_studio: Server, token: None, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = six(data)
    project = begun(label_studio, "incremental")
    upload(project, wanted)
    simulated = SimulatedAnnotator(label_studio, project)
    monkeypatch.setattr(module, "_LATE", timedelta())
    _, before = project.changed_since("")
    number = simulated.answer(WRONG, ANIMAL)
    (changed,) = [task for task in project.changed_since(before)[0] if task.annotations]
    assert changed.annotations[0].category == ANIMAL
    _, after = project.changed_since(before)
    simulated.delete(number)
    (emptied,) = [p for p in project.changed_since(after)[0] if p.sample_id == changed.sample_id]
    assert (emptied.task, emptied.annotations) == (changed.task, ())


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
    (answer,) = [each for task in project.changed_since("")[0] for each in task.annotations]
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
    assert project.task_numbers() == first
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
        project.changed_since("")


@on_a_server
def test_a_project_deleted_while_it_is_read_is_no_short_list_of_answers(
    label_studio: Server, token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = begun(label_studio, "vanishes")
    simulated = SimulatedAnnotator(label_studio, project)
    monkeypatch.setattr(project, "_find", lambda: simulated.project)
    simulated.client.projects.delete(simulated.project.id)
    with pytest.raises(StageError, match="was deleted meanwhile"):
        project.changed_since("")


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
        Project(settings(label_studio.url, "refused")).changed_since("")
    assert "not-the-token" not in str(caught.value)


@on_a_server
def test_tasks_move_to_the_tabs_of_their_tiers_and_only_there_are_they_offered(
    label_studio: Server, token: None, data: Path
) -> None:
    wanted, project = six(data), begun(label_studio, "tabs")
    project.ensure([ANIMAL, FOOD])  # makes no tab twice
    numbers = upload(project, wanted)
    simulated = SimulatedAnnotator(label_studio, project)
    simulated.answer(WRONG, ANIMAL)
    _, until = project.changed_since("")
    sample, *others = sorted(numbers, key=lambda one: one != next(t.sample_id for t in wanted if t.text == WRONG))
    updates = [
        TaskUpdate(numbers[sample], TaskView("review", "Animals: 2"), ANIMAL, "", 0.9),
        TaskUpdate(numbers[others[0]], TaskView("review", "Food: 2"), FOOD, "", 0.8),
        TaskUpdate(numbers[others[1]], TaskView("arbitrate", "Food: 2"), FOOD, "", 0.7),
        TaskUpdate(numbers[others[2]], TaskView("done")),
    ]
    for _ in range(2):  # a run that was killed repeats it
        project.update_tasks(updates)
    views = simulated.client.views.list(project=simulated.project.id)
    assert sorted(view.data["title"] for view in views) == sorted(TABS.values())
    inside = {view.data["title"]: list(simulated.client.tasks.list(view=view.id)) for view in views}
    assert {name: len(there) for name, there in inside.items()} == {"1 annotate": 2, "2 review": 2, "3 arbitrate": 1}
    reviewed = next(task for task in inside["2 review"] if task.data["text"] == WRONG)
    assert reviewed.data["note"] == "Animals: 2" and reviewed.data["image"].startswith("data:image/png")
    proposed = {t.id: [(chosen(p.result), p.score) for p in t.predictions] for t in simulated.tasks()}
    assert [proposed[update.number] for update in updates[:3]] == [[(t.category, t.score)] for t in updates[:3]]
    assert len(proposed[updates[3].number]) == 1  # what was proposed to annotators
    assert [len(p.annotations) for p in project.changed_since("")[0] if p.sample_id == sample] == [1]
    assert project.changed_since("")[1] == until  # a move is no news


@on_a_server
def test_a_caption_that_nobody_changed_is_proposed_as_it_came(label_studio: Server, token: None, data: Path) -> None:
    project = Project(settings(label_studio.url, "captions in tabs", template="caption"))
    project.ensure(["keep", "change"])
    first, second = six(data)[:2]
    kept, changed = upload(project, [first, second]).values()
    project.update_tasks(
        [
            TaskUpdate(kept, TaskView("review"), "keep", "", 0.9),
            TaskUpdate(changed, TaskView("review"), "change", "a horse", 0.9),
        ]
    )
    simulated = SimulatedAnnotator(label_studio, project)
    texts = {task.id: task.predictions[0].result[0]["value"]["text"] for task in simulated.tasks()}
    assert texts == {kept: [first.text], changed: ["a horse"]}


@on_a_server
def test_a_server_error_is_asked_again_and_then_told(label_studio: Server, proxy: Faulty) -> None:
    begun(label_studio, "answers 500")
    project = Project(settings(proxy.url, "answers 500"))
    proxy.begin("refused", "/api/projects")
    with pytest.raises(StageError, match=rf"{proxy.url} answered 500 \(made up.*\); its log says why: nothing is lost"):
        project.changed_since("")
    assert proxy.seen == ["GET"] * 3
    proxy.end()
    assert project.changed_since("")[0] == []


@on_a_server
def test_a_slow_server_is_waited_for_only_so_long(
    label_studio: Server, proxy: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(label_studio, "slow")
    monkeypatch.setattr(module, "WAIT", 1.0)
    project = Project(settings(proxy.url, "slow"))
    proxy.begin("slow", "/api/tasks")
    with pytest.raises(StageError, match=rf"{proxy.url} took longer than 1 s .*the next run does the rest"):
        project.changed_since("")


def test_a_missing_token_and_a_server_that_is_down_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.delenv(TOKEN, raising=False)
        with pytest.raises(StageError, match=f"{TOKEN} is not set"):
            Project(settings(url, "nowhere"))
        monkeypatch.setenv(TOKEN, "any")
        with pytest.raises(StageError, match=f"Label Studio at {url} does not answer"):
            Project(settings(url, "nowhere")).changed_since("")
