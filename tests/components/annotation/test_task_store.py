"""Tasks go through the tiers whole, once and in order, whoever answers, and nobody judges their own work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy.exc import IntegrityError

from components.annotation import sync, task_store
from components.annotation.crowd import estimate_crowd
from components.annotation.workflow import Answer, MoveKind, OvertakenError, OwnWorkError, State, Tier, TierError
from components.events.database import opened
from tests.components.annotation.examples import CROWD, LABELS, PROJECT, TIERS, answer, check, kinds, only_task


def test_a_task_goes_through_all_tiers_with_who_when_and_why(url: str) -> None:
    with opened(url) as engine:
        assert task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead") == 1
        assert task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead") == 0
        for person, label in (("1", "food"), ("2", "face"), ("3", "food")):
            answer(engine, person, Tier.ANNOTATE, label)
        assert answer(engine, "7", Tier.REVIEW, "", "blurred\x00").state is State.ANNOTATE
        answer(engine, "4", Tier.ANNOTATE, "food")
        assert answer(engine, "5", Tier.ANNOTATE, "food").label == "food"
        assert kinds(engine) == [MoveKind.CREATE, MoveKind.SUBMIT, MoveKind.REJECT, MoveKind.AGREE]
        rejected = task_store.read_moves(engine, PROJECT)[2]
        assert (rejected.who, rejected.why) == ("7", "blurred\ufffd")
        ended = [r for r in task_store.read_answers(engine, PROJECT)[only_task(engine).task] if r.ended]
        assert [r.person for r in ended] == ["1", "2", "3", "7"]
        assert ended[0].ended_why == "rejected by 7: blurred\ufffd"
        check(engine)


def test_arbitration_settles_what_the_tiers_disagree_on(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        for person, label in (("1", "food"), ("2", "face"), ("3", "food")):
            answer(engine, person, Tier.ANNOTATE, label)
        assert answer(engine, "7", Tier.REVIEW, "place").state is State.ARBITRATE
        assert answer(engine, "9", Tier.ARBITRATE, "face", "it smiles").label == "face"
        assert task_store.read_moves(engine, PROJECT)[-1].why == "it smiles"
        check(engine)


def test_what_is_refused_says_why_and_changes_nothing(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        early = only_task(engine)
        for person, label in (("1", "food"), ("7", "face"), ("3", "food")):
            answer(engine, person, Tier.ANNOTATE, label)
        seen = only_task(engine)
        before = task_store.read_moves(engine, PROJECT), task_store.read_answers(engine, PROJECT)
        refused: list[tuple[type[TierError], str, Answer]] = [
            (OwnWorkError, "7 has had a hand", Answer("7", Tier.REVIEW, "food")),
            (TierError, "2 is not among those who review", Answer("2", Tier.REVIEW, "food")),
            (TierError, "takes nobody's answer to arbitrate", Answer("9", Tier.ARBITRATE, "food")),
            (TierError, "takes nobody's answer to annotate", Answer("4", Tier.ANNOTATE, "food")),
            (TierError, "does not know the label 'sports'", Answer("8", Tier.REVIEW, "sports")),
        ]
        for kind, words, given in refused:
            with pytest.raises(kind, match=words):
                task_store.submit(engine, seen, given, CROWD, TIERS)
        with pytest.raises(OvertakenError, match="cat is not at version 1, but at 5"):
            task_store.submit(engine, early, Answer("8", Tier.REVIEW, "food"), CROWD, TIERS)
        with pytest.raises(TierError, match="no project 'other'"):
            sync.begin_reconcile(engine, "other")
        assert (task_store.read_moves(engine, PROJECT), task_store.read_answers(engine, PROJECT)) == before


def test_of_two_reviewers_at_once_one_is_told_to_look_again(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        for person, label in (("1", "food"), ("2", "face"), ("3", "food")):
            answer(engine, person, Tier.ANNOTATE, label)
        seen, together = only_task(engine), Barrier(2)

        def attempt(person: str) -> State | None:
            together.wait()
            try:
                return task_store.submit(engine, seen, Answer(person, Tier.REVIEW, "food"), CROWD, TIERS).state
            except TierError:
                return None

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(attempt, ("7", "8")), key=str) == [None, State.DONE]
        check(engine)


def test_the_database_itself_refuses_a_second_current_answer_of_a_person(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        task = answer(engine, "1", Tier.ANNOTATE, "food")
        with pytest.raises(IntegrityError), engine.begin() as connection:
            task_store.insert_answer(connection, task, Answer("1", Tier.REVIEW, "food"), 0.0)


def test_gold_never_ends_and_only_a_leads_word_changes_its_label(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"gold": "food"}, "lead")
        for person in ("1", "2", "3"):
            answer(engine, person, Tier.ANNOTATE, "food")
        now = only_task(engine)
        assert (now.state, now.label) == (State.ANNOTATE, "")
        settled = task_store.settle_gold(engine, now, "face", "lead", "the drawing is a face")
        assert settled.gold == "face"
        with pytest.raises(OvertakenError):
            task_store.settle_gold(engine, now, "food", "lead", "no")


def test_who_answers_at_random_is_found_unfit() -> None:
    guesses = {i: [Answer("1", Tier.ANNOTATE, LABELS[i % 4])] for i in range(25)}
    crowd = estimate_crowd(guesses, dict.fromkeys(range(25), "food"), LABELS, TIERS)
    assert crowd.unfit(TIERS.min_accuracy) == {"1"}
