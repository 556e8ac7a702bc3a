"""What people do in Label Studio counts here once and in order, however often, and by how many, it is read."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, event

from components.annotation import tier_reconcile, tier_store
from components.annotation.label_studio import Answer as Annotation
from components.annotation.label_studio import Polled, Reading
from components.annotation.tier_reconcile import Summary, reconcile
from components.annotation.tiers import Kind, OvertakenError, State
from components.events.database import connect, opened
from tests.components.annotation.examples import LABELS, PROJECT, TIERS, annotation, check, kinds, only_task, polled

FORK = multiprocessing.get_context("fork")
DISAGREED = [annotation(1, "cat", 1, "food"), annotation(2, "cat", 2, "face", 1), annotation(3, "cat", 3, "food", 2)]
ACCEPTED = [*DISAGREED, annotation(4, "cat", 7, "food", 3)]


def read(engine: Engine, given: Sequence[Annotation]) -> Summary:
    found = reconcile(engine, PROJECT, lambda _: polled(given), LABELS, TIERS)
    check(engine)
    return found


def with_cat(engine: Engine, given: Sequence[Annotation]) -> None:
    tier_store.add(engine, PROJECT, {"cat": ""}, "lead")
    read(engine, given)


def test_annotations_become_answers_once_and_a_reviewers_becomes_a_verdict(url: str) -> None:
    with opened(url) as engine:
        tier_store.add(engine, PROJECT, {"cat": ""}, "lead")
        assert read(engine, ACCEPTED).new == 4
        assert (only_task(engine).state, only_task(engine).label) == (State.DONE, "food")
        assert kinds(engine) == [Kind.CREATE, Kind.SUBMIT, Kind.ACCEPT]
        assert read(engine, ACCEPTED) == Summary()


def test_an_annotation_edited_after_review_reopens_the_task_and_sets_the_review_aside(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, ACCEPTED)
        edited = [annotation(1, "cat", 1, "face", 9), *ACCEPTED[1:]]
        found = read(engine, edited)
        assert (found.edited, found.new, only_task(engine).state) == (1, 0, State.REVIEW)
        moves = tier_store.history(engine, PROJECT)
        assert [(m.kind, m.who) for m in moves[-2:]] == [(Kind.REOPEN, "1"), (Kind.SUBMIT, "1")]
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
        reopened = tier_store.history(engine, PROJECT)[-1]
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
        assert kinds(engine)[-3:] == [Kind.DECIDE, Kind.REOPEN, Kind.DECIDE]


def test_what_cannot_count_is_said_and_the_rest_counts(url: str) -> None:
    with opened(url) as engine:
        tier_store.add(engine, PROJECT, {"cat": ""}, "lead")
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
        assert read(engine, [annotation(1, "cat", 7, "place", 8), *given[1:]]).changed_tasks == 0


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

        def slow(_: str) -> Reading:
            read(engine, newer)  # another reconcile begins and ends while this one still reads
            return polled(ACCEPTED[1:])

        before = len(tier_store.history(engine, PROJECT))
        with pytest.raises(OvertakenError, match="reconcile 2 of stickers read the annotations before reconcile 3"):
            reconcile(engine, PROJECT, slow, LABELS, TIERS)
        assert len(tier_store.history(engine, PROJECT)) == before + 2
        check(engine)


def test_many_reconciles_at_once_count_everything_once(url: str) -> None:
    samples = [f"sample {i}" for i in range(10)]
    given = [annotation(10 * i + p, s, p, "food" if p else "face", p) for i, s in enumerate(samples) for p in range(3)]
    with opened(url) as engine:
        tier_store.add(engine, PROJECT, dict.fromkeys(samples, ""), "lead")

        def attempt(_: int) -> bool:
            try:
                return bool(reconcile(engine, PROJECT, lambda _: polled(given), LABELS, TIERS))
            except OvertakenError:
                return False

        with ThreadPoolExecutor(4) as pool:
            assert any(pool.map(attempt, range(8)))
        assert read(engine, given) == Summary()
        assert sum(map(len, tier_store.records(engine, PROJECT).values())) == len(given)


def killed(url: str, given: Sequence[Annotation], after: int) -> bool:
    """Reconcile in a process of its own that is killed before its statement or commit number `after`."""

    def work() -> None:
        engine = connect(url)
        left = iter(range(after))

        def count(*_: object) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(engine, "before_cursor_execute", count)
        event.listen(engine, "commit", count)
        reconcile(engine, PROJECT, lambda _: polled(given), LABELS, TIERS)

    process = FORK.Process(target=work)
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_reconciles_killed_anywhere_are_carried_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier_reconcile, "AT_ONCE", 2)  # two transactions a reconcile
    chance, kills = random.Random(7), 0
    with opened(url) as engine:
        samples = [f"sample {i}" for i in range(4)]
        tier_store.add(engine, PROJECT, dict.fromkeys(samples, ""), "lead")
        given: list[Annotation] = []
        for turn in range(5):
            given = _next_turn(given, samples, turn, chance.choice)
            while killed(url, given, chance.randint(20, 80)):
                kills += 1
                check(engine)
            found = read(engine, given)  # people are known better now, which may settle a task
            assert found == Summary(changed_tasks=found.changed_tasks)
        assert kills > 5
        current = [r for rs in tier_store.records(engine, PROJECT).values() for r in rs if r.ended is None]
        assert {(r.source, r.stamp) for r in current} <= {
            (f"label-studio:{a.task}:{a.annotation}", a.time) for a in given
        }


def _next_turn(
    given: list[Annotation], samples: list[str], turn: int, choice: Callable[[Sequence[str]], str]
) -> list[Annotation]:
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
        tier_store.add(engine, PROJECT, {"dog": ""}, "lead")
        asked = []

        def changed(since: str) -> Reading:
            asked.append(since)
            return Reading(polled([annotation(9, "dog", 1, "animal")]).tasks, "later")

        assert reconcile(engine, PROJECT, changed, LABELS, TIERS).new == 1
        assert reconcile(engine, PROJECT, changed, LABELS, TIERS) == Summary()
        assert asked == ["", "later"]
        assert tier_store.tasks(engine, PROJECT)[0].label == "food"  # the cat was not in the reading
        anew = Reading((Polled("1@1800000000", "cat"),), "")  # the same number, on a server that began anew
        assert reconcile(engine, PROJECT, lambda _: anew, LABELS, TIERS) == Summary()
        assert tier_store.tasks(engine, PROJECT)[0].label == "food"


def test_a_reviewer_may_reject_with_a_reason_in_the_annotation(url: str) -> None:
    with opened(url) as engine:
        with_cat(engine, [*DISAGREED, replace(annotation(4, "cat", 7, "", 3), why="blurred")])
        assert (kinds(engine)[-1], tier_store.history(engine, PROJECT)[-1].why) == (Kind.REJECT, "blurred")
