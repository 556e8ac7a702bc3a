"""What the server shows of a task: to annotators nothing of each other, to those above them what was said so far.

That tasks get there, move and are sent again is tested with the flows, on a real server.
"""

from __future__ import annotations

import pytest

from components.annotation import tier_store
from components.annotation.label_studio import Shown
from components.annotation.tier_send import add_chosen, chosen, view
from components.annotation.tiers import Tier
from components.events.transactions import opened
from tests.components.annotation.examples import PROJECT, answer, only_task


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
