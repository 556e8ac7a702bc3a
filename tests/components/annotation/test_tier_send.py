"""What the server shows of a task: to annotators nothing of each other, to those above them what was said so far.

How tasks get there, whatever fails on the way, is tested on a real server behind a proxy that MAKES UP faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from components.annotation import label_studio as label_studio_module
from components.annotation import tier_store
from components.annotation.label_studio import Project
from components.annotation.label_studio_show import Shown
from components.annotation.tier_reconcile import Summary, reconcile
from components.annotation.tier_send import add_chosen, catch_up, chosen, move, send, shown, view
from components.annotation.tiers import Tier
from components.events.database import opened
from components.stage import StageError
from tests.components.annotation.examples import PROJECT, TIERS, answer, only_task
from tests.components.annotation.faulty import Fault, Faulty
from tests.components.annotation.simulated import SimulatedAnnotator, another_account, settings
from tests.components.annotation.test_label_studio import ANIMAL, FOOD, begun, on_a_server, six
from tests.label_studio_server import Server

LABELS = (ANIMAL, FOOD)


@pytest.mark.parametrize("reviewed", [False, True])
def test_each_tier_sees_what_the_ones_before_said(url: str, reviewed: bool) -> None:
    with opened(url) as engine:
        tier_store.add(engine, PROJECT, {"cat": ""}, "lead")
        answer(engine, "1", Tier.ANNOTATE, "food")
        assert view(only_task(engine), tier_store.records(engine, PROJECT)[1]) == Shown("annotate")
        answer(engine, "2", Tier.ANNOTATE, "face", "it smiles")
        answer(engine, "3", Tier.ANNOTATE, "food")
        words, tier = "food: 2; face: 1; 2 says: it smiles", "review"
        if reviewed:
            answer(engine, "7", Tier.REVIEW, "place", "a roof")
            words, tier = f"{words}; the reviewer: place a roof", "arbitrate"
        assert view(only_task(engine), tier_store.records(engine, PROJECT)[1]) == Shown(tier, words)
        if reviewed:
            answer(engine, "9", Tier.ARBITRATE, "food")
            assert view(only_task(engine), tier_store.records(engine, PROJECT)[1]) == Shown("done")


def test_annotators_hear_why_a_reviewer_sent_a_task_back(url: str) -> None:
    with opened(url) as engine:
        tier_store.add(engine, PROJECT, {"cat": ""}, "lead")
        for person, label in (("1", "food"), ("2", "face"), ("3", "food")):
            answer(engine, person, Tier.ANNOTATE, label)
        answer(engine, "7", Tier.REVIEW, "", "blurred")
        wanted = Shown("annotate", "a reviewer sent it back: blurred")
        assert view(only_task(engine), tier_store.records(engine, PROJECT)[1]) == wanted


def test_a_choice_is_remembered_with_what_was_expected_of_it(url: str) -> None:
    with opened(url) as engine:
        assert chosen(engine, PROJECT) == (-1, "")
        assert add_chosen(engine, PROJECT, {"cat": "", "dog": "animal"}, 0, "") == 2
        assert add_chosen(engine, PROJECT, {"cat": ""}, 3, "little is left") == 0
        assert chosen(engine, PROJECT) == (3, "little is left")
        assert [task.gold for task in tier_store.tasks(engine, PROJECT)] == ["", "animal"]


class Sending:
    """Six samples as tasks of a project of its own, on a server with faults."""

    def __init__(self, proxy: Faulty, engine: Engine, data: Path, name: str) -> None:
        self.engine, self.pictures = engine, {task.sample_id: task for task in six(data)}
        begun(Server(proxy.upstream, ""), name)
        self.project = Project(settings(proxy.url, name))
        tier_store.add(engine, self.project.title, dict.fromkeys(self.pictures, ""), "lead")

    def send(self) -> int:
        catch_up(self.engine, self.project)
        return send(self.engine, self.project, lambda missing: (self.pictures[task.sample] for task in missing))

    def read(self) -> Summary:
        return reconcile(self.engine, self.project.title, self.project.read, LABELS, TIERS)

    def move(self) -> int:
        return move(self.engine, self.project, LABELS, TIERS)

    def noted(self) -> bool:
        """Whether every task is on the server just once, under the number that is noted here."""
        there, numbers = shown(self.engine, self.project.title), self.project.numbers()
        noted = {task.sample: there[task.task][0] for task in tier_store.tasks(self.engine, self.project.title)}
        return noted == numbers and self.project.size() == len(self.pictures)


@pytest.fixture
def sending(proxy: Faulty, data: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sending]:
    with opened(f"sqlite:///{tmp_path / 'events.db'}") as engine:
        yield Sending(proxy, engine, data, request.node.name[-30:])


@on_a_server
@pytest.mark.parametrize(("fault", "left"), [("refused", 4), ("lost", 2)])
def test_an_import_that_fails_is_completed_by_the_next_run(
    sending: Sending, proxy: Faulty, monkeypatch: pytest.MonkeyPatch, fault: Fault, left: int
) -> None:
    monkeypatch.setattr(label_studio_module, "_CHUNK", 2)
    proxy.begin(fault, "/import", spared=1)
    with pytest.raises(StageError, match=r"answered 50\d \(made up"):
        sending.send()
    assert len(proxy.seen) == 2  # what might have been taken is not asked for again
    proxy.end()
    assert sending.send() == left and sending.noted()
    assert sending.send() == 0


@on_a_server
def test_what_is_deleted_or_doubled_on_the_server_is_put_right(sending: Sending, label_studio: Server) -> None:
    sending.send()
    by_hand = SimulatedAnnotator(label_studio, sending.project)
    by_hand.client.tasks.delete(str(by_hand.tasks()[0].id))
    assert sending.send() == 1 and sending.noted()
    for _ in sending.project.upload(list(sending.pictures.values())[:3]):
        pass  # an import that was given up and taken after all
    assert sending.send() == 0 and sending.noted()


@on_a_server
def test_answers_count_and_tasks_move_once_whatever_fails_on_the_way(
    sending: Sending, proxy: Faulty, label_studio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_studio_module, "_PAGE", 2)
    sending.send()
    for name in ("first", "second"):
        person = SimulatedAnnotator(another_account(label_studio, f"{name}-of-faults"), sending.project)
        for picture in sending.pictures.values():
            person.answer(picture.text, FOOD)
    proxy.begin("refused", "/api/tasks", spared=2)
    with pytest.raises(StageError, match="answered 500"):
        sending.read()
    assert tier_store.records(sending.engine, sending.project.title) == {}
    proxy.end()
    assert sending.read().new == 12 and sending.read() == Summary()

    for action in ("delete_tasks_predictions", "import/predictions", "add_data_field"):
        proxy.begin("lost", action)
        with pytest.raises(StageError, match="answered 502"):
            sending.move()
    proxy.end()
    assert sending.move() == 6 and sending.move() == 0
    tasks = SimulatedAnnotator(label_studio, sending.project).tasks()
    assert {(t.data["tier"], t.data["note"], len(t.predictions)) for t in tasks} == {("review", f"{FOOD}: 2", 1)}
    assert sending.read() == Summary() and sending.noted()
