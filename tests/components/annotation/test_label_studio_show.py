"""Tasks on a real Label Studio server move to the tabs of their tiers, many at a time, with what is proposed there."""

from __future__ import annotations

from pathlib import Path

from components.annotation.label_studio import TABS, Project
from components.annotation.label_studio_show import Shown, Turn
from components.annotation.template import chosen
from tests.components.annotation.simulated import WRONG, SimulatedAnnotator, settings
from tests.components.annotation.test_label_studio import ANIMAL, FOOD, begun, on_a_server, six, upload
from tests.label_studio_server import Server


@on_a_server
def test_tasks_move_to_the_tabs_of_their_tiers_and_only_there_are_they_offered(
    label_studio: Server, token: None, data: Path
) -> None:
    wanted, project = six(data), begun(label_studio, "tabs")
    project.ensure([ANIMAL, FOOD])  # makes no tab twice
    numbers = upload(project, wanted)
    simulated = SimulatedAnnotator(label_studio, project)
    simulated.answer(WRONG, ANIMAL)
    until = project.read("").until
    sample, *others = sorted(numbers, key=lambda one: one != next(t.sample_id for t in wanted if t.text == WRONG))
    turns = [
        Turn(numbers[sample], Shown("review", "Animals: 2"), ANIMAL, "", 0.9),
        Turn(numbers[others[0]], Shown("review", "Food: 2"), FOOD, "", 0.8),
        Turn(numbers[others[1]], Shown("arbitrate", "Food: 2"), FOOD, "", 0.7),
        Turn(numbers[others[2]], Shown("done")),
    ]
    for _ in range(2):  # a run that was killed repeats it
        project.show(turns)
    views = simulated.client.views.list(project=simulated.project.id)
    assert sorted(view.data["title"] for view in views) == sorted(TABS.values())
    inside = {view.data["title"]: list(simulated.client.tasks.list(view=view.id)) for view in views}
    assert {name: len(there) for name, there in inside.items()} == {"1 annotate": 2, "2 review": 2, "3 arbitrate": 1}
    reviewed = next(task for task in inside["2 review"] if task.data["text"] == WRONG)
    assert reviewed.data["note"] == "Animals: 2" and reviewed.data["image"].startswith("data:image/png")
    proposed = {t.id: [(chosen(p.result), p.score) for p in t.predictions] for t in simulated.tasks()}
    assert [proposed[turn.number] for turn in turns[:3]] == [[(t.category, t.score)] for t in turns[:3]]
    assert len(proposed[turns[3].number]) == 1  # what was proposed to annotators
    assert [len(p.answers) for p in project.read("").tasks if p.sample_id == sample] == [1]
    assert project.read("").until == until  # a move is no news


@on_a_server
def test_a_caption_that_nobody_changed_is_proposed_as_it_came(label_studio: Server, token: None, data: Path) -> None:
    project = Project(settings(label_studio.url, "captions in tabs", template="caption"))
    project.ensure(["keep", "change"])
    first, second = six(data)[:2]
    kept, changed = upload(project, [first, second]).values()
    project.show(
        [Turn(kept, Shown("review"), "keep", "", 0.9), Turn(changed, Shown("review"), "change", "a horse", 0.9)]
    )
    simulated = SimulatedAnnotator(label_studio, project)
    texts = {task.id: task.predictions[0].result[0]["value"]["text"] for task in simulated.tasks()}
    assert texts == {kept: [first.text], changed: ["a horse"]}
