"""Tasks go through the tiers whole, once and in order, whoever answers, and nobody judges their own work."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from components.annotation import sync, task_store
from components.annotation.crowd import estimate_crowd
from components.annotation.workflow import Answer, MoveKind, State, Tier, TierError
from components.events.database import opened
from components.events.ledger import OvertakenError
from tests.components.annotation.examples import LABELS, PROJECT, TIERS, answer, check, kinds, only_task


def test_a_task_goes_through_all_tiers_with_who_when_and_why(url: str) -> None:
    with opened(url) as engine:
        assert task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead") == 1
        assert task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead") == 0
        for person, label in (("1", "food"), ("2", "face"), ("3", "food")):
            answer(engine, person, label)
        assert answer(engine, "7", "", "blurred\x00").state is State.ANNOTATE
        answer(engine, "4", "food")
        assert answer(engine, "5", "food").label == "food"
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
            answer(engine, person, label)
        assert answer(engine, "7", "place").state is State.ARBITRATE
        assert answer(engine, "9", "face", "it smiles").label == "face"
        assert task_store.read_moves(engine, PROJECT)[-1].why == "it smiles"
        check(engine)


def test_a_project_without_tasks_is_refused_in_words(url: str) -> None:
    with opened(url) as engine, pytest.raises(TierError, match="no project 'other'"):
        sync.begin_reconcile(engine, "other")


def test_the_database_itself_refuses_a_second_current_answer_of_a_person(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"cat": ""}, "lead")
        task = answer(engine, "1", "food")
        with pytest.raises(IntegrityError), engine.begin() as connection:
            task_store.insert_answer(connection, task, Answer("1", Tier.REVIEW, "food"), 0.0, "another", "edit")


def test_gold_never_ends_and_only_a_leads_word_changes_its_label(url: str) -> None:
    with opened(url) as engine:
        task_store.add_tasks(engine, PROJECT, {"gold": "food"}, "lead")
        for person in ("1", "2", "3"):
            answer(engine, person, "food")
        now = only_task(engine)
        assert (now.state, now.label) == (State.ANNOTATE, "")
        task_store.settle_gold(engine, now, "face", "lead", "the drawing is a face")
        assert only_task(engine).gold == "face"
        with pytest.raises(OvertakenError, match=f"gold is not at version {now.version}, but at {now.version + 1}"):
            task_store.settle_gold(engine, now, "food", "lead", "no")


def test_who_answers_at_random_is_found_unfit() -> None:
    guesses = {i: [Answer("1", Tier.ANNOTATE, LABELS[i % 4])] for i in range(25)}
    crowd = estimate_crowd(guesses, dict.fromkeys(range(25), "food"), LABELS, TIERS)
    assert crowd.unfit(TIERS.min_accuracy) == {"1"}
