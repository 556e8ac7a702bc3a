"""What people do in Label Studio counts here once and in order, however often, and by how many, it is read.

And what the server shows of a task: to annotators nothing of each other, to those above them what was said so far. How
tasks get there, whatever fails on the way, is tested on a real server behind a proxy that MAKES UP faults.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from components.annotation import label_studio as label_studio_module
from components.annotation import sync, task_store
from components.annotation.label_studio import Project, RemoteAnnotation, RemoteTask, TaskView
from components.annotation.sync import Summary, catch_up, read_views, reconcile, send, update_views, view_of
from components.annotation.workflow import MoveKind, State
from components.events.database import connect, opened
from components.events.ledger import OvertakenError
from components.stage import StageError
from tests.components.annotation.examples import (
    LABELS,
    PROJECT,
    TIERS,
    annotation,
    answer,
    changes,
    check,
    kinds,
    only_task,
)
from tests.components.annotation.faulty import Fault, Faulty
from tests.components.annotation.simulated import SimulatedAnnotator, another_account, settings
from tests.components.annotation.test_label_studio import ANIMAL, FOOD, begun, on_a_server, six
from tests.label_studio_server import Server

FORK = multiprocessing.get_context("fork")
DISAGREED = [annotation(1, "cat", 1, "food"), annotation(2, "cat", 2, "face", 1), annotation(3, "cat", 3, "food", 2)]
ACCEPTED = [*DISAGREED, annotation(4, "cat", 7, "food", 3)]


def read(engine: Engine, given: Sequence[RemoteAnnotation]) -> Summary:
    found = reconcile(engine, PROJECT, lambda _: changes(given), LABELS, TIERS)
    check(engine)
    return found


def with_cat(engine: Engine, given: Sequence[RemoteAnnotation]) -> None:
    task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
    read(engine, given)


def test_annotations_become_answers_once_and_a_reviewers_becomes_a_verdict(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        assert read(engine, ACCEPTED).new == 4
        assert (only_task(engine).state, only_task(engine).label) == (State.DONE, "food")
        assert kinds(engine) == [MoveKind.CREATE, MoveKind.SUBMIT, MoveKind.ACCEPT]
        assert read(engine, ACCEPTED) == Summary()


def test_an_annotation_edited_after_review_reopens_the_task_and_sets_the_review_aside(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, ACCEPTED)
        edited = [annotation(1, "cat", 1, "face", 9), *ACCEPTED[1:]]
        found = read(engine, edited)
        assert (found.edited, found.new, only_task(engine).state) == (1, 0, State.REVIEW)
        moves = task_store.read_moves(engine, PROJECT)
        assert [(m.kind, m.who) for m in moves[-2:]] == [(MoveKind.REOPEN, "1"), (MoveKind.SUBMIT, "1")]
        assert moves[-2].why == "the answer of 1 was edited"
        assert read(engine, edited) == Summary()  # the old verdict is not taken again
        again = [*edited[:3], annotation(4, "cat", 7, "face", 12)]
        read(engine, again)
        assert only_task(engine).label == "face"


def test_an_annotation_deleted_after_review_takes_the_task_back_to_the_annotators(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, ACCEPTED)
        assert read(engine, ACCEPTED[1:]).deleted == 1
        assert (only_task(engine).state, only_task(engine).label) == (State.ANNOTATE, "")
        reopened = task_store.read_moves(engine, PROJECT)[-1]
        assert (reopened.who, reopened.why) == ("label-studio", "the answer of 1 was deleted")


def test_a_deleted_review_leaves_the_annotations_and_asks_for_another(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, ACCEPTED)
        read(engine, DISAGREED)
        assert only_task(engine).state is State.REVIEW
        read(engine, [*DISAGREED, annotation(5, "cat", 8, "place", 20)])
        assert only_task(engine).state is State.ARBITRATE


def test_an_edited_ruling_replaces_the_label(url: str) -> None:
    with opened(url) as engine:
        disputed = [*DISAGREED, annotation(4, "cat", 7, "place", 3), annotation(5, "cat", 9, "face", 4)]
        with_cat(engine, disputed)
        assert only_task(engine).label == "face"
        read(engine, [*disputed[:-1], annotation(5, "cat", 9, "food", 30)])
        assert only_task(engine).label == "food"
        assert kinds(engine)[-3:] == [MoveKind.DECIDE, MoveKind.REOPEN, MoveKind.DECIDE]


def test_what_cannot_count_is_said_and_the_rest_counts(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        given = [
            annotation(1, "cat", 7, "food"),
            annotation(2, "cat", 2, "face", 1),
            annotation(3, "cat", 3, "sports", 2),
            annotation(4, "cat", 4, "food", 3),
            annotation(5, "dog", 4, "food", 3),
        ]
        words = [
            "sample cat, annotation 3 of 3: the template does not know the label 'sports'; it knows animal, face, "
            "food, place",
            "sample dog: the project has no such task",
        ]
        assert read(engine, given).refused == words
        assert only_task(engine).state is State.REVIEW
        # The reviewer who annotated it edits their annotation: they still review nothing.
        found = read(engine, [annotation(1, "cat", 7, "place", 8), *given[1:]])
        assert (found.edited, found.refused, only_task(engine).state) == (1, words, State.ANNOTATE)
        before = only_task(engine)
        read(engine, [annotation(1, "cat", 7, "place", 8), *given[1:]])
        assert only_task(engine) == before


def test_an_edit_to_an_unknown_label_takes_the_old_one_back(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, ACCEPTED)
        found = read(engine, [annotation(1, "cat", 1, "sports", 9), *ACCEPTED[1:]])
        assert len(found.refused) == 1
        assert (only_task(engine).state, only_task(engine).label) == (State.ANNOTATE, "")


def test_of_two_reconciles_at_once_the_older_view_changes_nothing(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, ACCEPTED)
        newer = [annotation(1, "cat", 1, "face", 9), *ACCEPTED[1:]]

        def slow(_: str) -> tuple[list[RemoteTask], str]:
            read(engine, newer)  # another reconcile begins and ends while this one still reads
            return changes(ACCEPTED[1:])

        before = len(task_store.read_moves(engine, PROJECT))
        with pytest.raises(OvertakenError, match="reconcile 2 of stickers read the annotations before reconcile 3"):
            reconcile(engine, PROJECT, slow, LABELS, TIERS)
        assert len(task_store.read_moves(engine, PROJECT)) == before + 2
        check(engine)


def test_many_reconciles_at_once_count_everything_once(url: str) -> None:
    samples = [f"sample {i}" for i in range(10)]
    given = [annotation(10 * i + p, s, p, "food" if p else "face", p) for i, s in enumerate(samples) for p in range(3)]
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, dict.fromkeys(samples, ""), "lead")

        def attempt(_: int) -> bool:
            try:
                return bool(reconcile(engine, PROJECT, lambda _: changes(given), LABELS, TIERS))
            except OvertakenError:
                return False

        with ThreadPoolExecutor(4) as pool:
            assert any(pool.map(attempt, range(8)))
        assert read(engine, given) == Summary()
        assert sum(map(len, task_store.read_answers(engine, PROJECT).values())) == len(given)


@pytest.mark.parametrize("first", ["reconcile", "settle"])
def test_of_a_decision_on_gold_and_a_reconcile_at_once_the_second_sees_what_the_first_did(
    url: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [annotation(person, "cat", person, "food", person) for person in (1, 2, 3)]
    holds, follows = threading.Event(), threading.Event()

    def holding(work: Callable[..., Any]) -> Callable[..., Any]:
        """The work on a task that is locked; the other begins before it does."""

        def held(*arguments: Any) -> Any:
            holds.set()
            assert follows.wait(10)
            return work(*arguments)

        return held

    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": "face"}, "lead")
        seen = only_task(engine)

        def settle() -> bool:
            try:
                task_store.settle_gold(engine, seen, "", "lead", "people contradict it")
            except OvertakenError:
                return False
            return True

        def take() -> bool:
            return reconcile(engine, PROJECT, lambda _: changes(given), LABELS, TIERS).new == 3

        def second(work: Callable[[], bool]) -> bool:
            assert holds.wait(10)
            follows.set()
            return work()

        module, name = (sync, "_bring_up_to_date") if first == "reconcile" else (task_store, "move_task")
        monkeypatch.setattr(module, name, holding(getattr(module, name)))
        works = [take, settle] if first == "reconcile" else [settle, take]
        with ThreadPoolExecutor(2) as pool:
            ended = [pool.submit(works[0]), pool.submit(second, works[1])]
            # A decision on what has changed since is refused; annotations count all the same.
            assert [one.result() for one in ended] == [True, first == "settle"]
        check(engine)
        if first == "reconcile":
            task_store.settle_gold(engine, only_task(engine), "", "lead", "looked at again")
        assert read(engine, given) == Summary()
        task = only_task(engine)
        assert (task.gold, task.state, task.label) == ("", State.DONE, "food")


def killed(url: str, given: Sequence[RemoteAnnotation], after: int) -> bool:
    """Reconcile in a process of its own that is killed before its statement or commit number `after`."""

    def work() -> None:
        engine = connect(url)
        left = iter(range(after))

        def count(*_: object) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(engine, "before_cursor_execute", count)
        event.listen(engine, "commit", count)
        reconcile(engine, PROJECT, lambda _: changes(given), LABELS, TIERS)

    process = FORK.Process(target=work)
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_reconciles_killed_anywhere_are_carried_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "AT_ONCE", 2)  # two transactions a reconcile
    chance, kills = random.Random(7), 0
    with opened(url) as engine:
        samples = [f"sample {i}" for i in range(4)]
        task_store.add_tasks(engine, PROJECT, dict.fromkeys(samples, ""), "lead")
        given: list[RemoteAnnotation] = []
        for turn in range(5):
            given = _next_turn(given, samples, turn, chance.choice)
            while killed(url, given, chance.randint(20, 80)):
                kills += 1
                check(engine)
            assert read(engine, given) == Summary()
        assert kills > 5
        current = [r for rs in task_store.read_answers(engine, PROJECT).values() for r in rs if r.ended is None]
        assert {(r.source, r.stamp) for r in current} <= {
            (f"label-studio:{a.task}:{a.annotation}", a.time) for a in given
        }


def _next_turn(
    given: list[RemoteAnnotation], samples: list[str], turn: int, choice: Callable[[Sequence[str]], str]
) -> list[RemoteAnnotation]:
    """Every sample is answered by one more person; one annotation is edited and one deleted."""
    people = (1, 2, 3, 7, 8, 9)
    new = [
        annotation(100 * turn + i, sample, people[turn], choice(LABELS), 5 * turn) for i, sample in enumerate(samples)
    ]
    old = given[1:]
    if old:
        first = old[0]
        old[0] = annotation(first.annotation, first.sample_id, first.annotator, choice(LABELS), 5 * turn + 1)
    return [*old, *new]


def test_only_what_changed_is_read_and_a_task_that_is_lost_takes_no_answer_with_it(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, ACCEPTED)
        task_store.add_tasks(engine, PROJECT, {"dog": ""}, "lead")
        asked = []

        def changed(since: str) -> tuple[list[RemoteTask], str]:
            asked.append(since)
            return changes([annotation(9, "dog", 1, "animal")])[0], "later"

        assert reconcile(engine, PROJECT, changed, LABELS, TIERS).new == 1
        assert reconcile(engine, PROJECT, changed, LABELS, TIERS) == Summary()
        assert asked == ["", "later"]
        assert task_store.read_tasks(engine, PROJECT)[0].label == "food"  # the cat was not in the reading
        anew = [RemoteTask("1@1800000000", "cat")]  # the same number, on a server that began anew
        assert reconcile(engine, PROJECT, lambda _: (anew, ""), LABELS, TIERS) == Summary()
        assert task_store.read_tasks(engine, PROJECT)[0].label == "food"


def test_a_reviewer_may_reject_with_a_reason_in_the_annotation(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, [*DISAGREED, replace(annotation(4, "cat", 7, "", 3), why="blurred")])
        assert (kinds(engine)[-1], task_store.read_moves(engine, PROJECT)[-1].why) == (MoveKind.REJECT, "blurred")


@pytest.mark.parametrize("reviewed", [False, True])
def test_each_tier_sees_what_the_ones_before_said(url: str, reviewed: bool) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        answer(engine, "1", "food")
        assert view_of(only_task(engine), task_store.read_answers(engine, PROJECT)[1]) == TaskView("annotate")
        answer(engine, "2", "face", "it smiles")
        answer(engine, "3", "food")
        words, tier = "food: 2; face: 1; 2 says: it smiles", "review"
        if reviewed:
            answer(engine, "7", "place", "a roof")
            words, tier = f"{words}; the reviewer: place a roof", "arbitrate"
        assert view_of(only_task(engine), task_store.read_answers(engine, PROJECT)[1]) == TaskView(tier, words)
        if reviewed:
            answer(engine, "9", "food")
            assert view_of(only_task(engine), task_store.read_answers(engine, PROJECT)[1]) == TaskView("done")


def test_annotators_hear_why_a_reviewer_sent_a_task_back(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        for person, label in (("1", "food"), ("2", "face"), ("3", "food")):
            answer(engine, person, label)
        answer(engine, "7", "", "blurred")
        wanted = TaskView("annotate", "a reviewer sent it back: blurred")
        assert view_of(only_task(engine), task_store.read_answers(engine, PROJECT)[1]) == wanted


class Sending:
    """Six samples as tasks of a project of its own, on a server with faults."""

    def __init__(self, proxy: Faulty, engine: Engine, data: Path, name: str) -> None:
        self.engine, self.pictures = engine, {task.sample_id: task for task in six(data)}
        begun(Server(proxy.upstream, ""), name)
        self.project = Project(settings(proxy.url, name))
        task_store.add_tasks(engine, self.project.title, dict.fromkeys(self.pictures, ""), "lead")

    def send(self) -> int:
        catch_up(self.engine, self.project)
        return send(self.engine, self.project, lambda missing: (self.pictures[task.sample] for task in missing))

    def read(self) -> Summary:
        return reconcile(self.engine, self.project.title, self.project.changed_since, (ANIMAL, FOOD), TIERS)

    def move(self) -> int:
        return update_views(self.engine, self.project, (ANIMAL, FOOD), TIERS)

    def noted(self) -> bool:
        """Whether every task is on the server just once, under the number that is noted here."""
        there, numbers = read_views(self.engine, self.project.title), self.project.task_numbers()
        noted = {task.sample: there[task.task][0] for task in task_store.read_tasks(self.engine, self.project.title)}
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
    assert task_store.read_answers(sending.engine, sending.project.title) == {}
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
