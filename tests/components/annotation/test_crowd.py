from __future__ import annotations

import numpy as np
import pytest

from components.annotation import crowd as trust
from components.annotation.crowd import estimate_crowd
from components.annotation.workflow import Answer, Tier
from tests.components.annotation.examples import CROWD, LABELS, TIERS

SKILLS = {"careful": 0.95, "middling": 0.8, "hasty": 0.7, "guessing": 0.25}


def answered(tasks: int, gold: int, seed: int = 7) -> tuple[dict[int, list[Answer]], dict[int, str]]:
    """Everybody's answers to every task, the first of them gold; food is taken for a face."""
    rng = np.random.default_rng(seed)
    truth = [LABELS[i] for i in rng.integers(len(LABELS), size=tasks)]
    answers: dict[int, list[Answer]] = {}
    for task, label in enumerate(truth):
        others = ["face"] if label == "food" else [other for other in LABELS if other != label]
        for person, skill in SKILLS.items():
            said = label if rng.random() < skill else str(rng.choice(others))
            answers.setdefault(task, []).append(Answer(person, Tier.ANNOTATE, said))
    return answers, dict(enumerate(truth[:gold]))


def test_people_are_known_by_their_answers_and_who_guesses_gets_no_more_tasks() -> None:
    answers, gold = answered(300, 20)
    crowd = estimate_crowd(answers, gold, LABELS, TIERS)
    for person, skill in SKILLS.items():
        assert crowd.accuracy[person] == pytest.approx(skill, abs=0.06)
    assert crowd.unfit(0.6) == {"guessing"}
    assert crowd.disputed == {}
    careful, guessing = (Answer(person, Tier.ANNOTATE, "food") for person in ("careful", "guessing"))
    assert crowd.aggregate([careful])[1] > 0.9 > 0.5 > crowd.aggregate([guessing])[1]
    # Most of what is wrongly called a face is food.
    assert crowd.mistakes_CC[LABELS.index("food"), LABELS.index("face")] > 0.8


def test_12_the_model_behind_people_and_labels_is_one_and_has_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, _ = answered(300, 0)
    crowd = estimate_crowd(answers, {}, LABELS, TIERS)
    monkeypatch.setattr(trust, "TOLERANCE", 1e-12)
    longer = estimate_crowd(answers, {}, LABELS, TIERS)
    for person in SKILLS:
        assert crowd.accuracy[person] == pytest.approx(longer.accuracy[person], abs=0.003)
        assert crowd.confusion_CC[person] == pytest.approx(longer.confusion_CC[person], abs=0.02)
    assert crowd.confusion_CC["careful"].diagonal() == pytest.approx([0.95] * 4, abs=0.08)
    assert crowd.confusion_CC["hasty"][LABELS.index("food"), LABELS.index("face")] == pytest.approx(0.3, abs=0.1)
    assert crowd.confusion_CC["hasty"].sum(axis=1) == pytest.approx([1] * 4)


def test_strangers_count_by_what_is_expected_of_their_tier() -> None:
    one = CROWD.aggregate([Answer("a", Tier.ANNOTATE, "food")])
    other = CROWD.aggregate([Answer("b", Tier.REVIEW, "food")])
    assert one == ("food", pytest.approx(0.8))
    assert other == ("food", pytest.approx(0.92))
    assert CROWD.unfit(0.6) == set()
    assert estimate_crowd({}, {}, LABELS, TIERS).accuracy == {}


def test_a_gold_label_that_everybody_contradicts_is_doubted_and_counts_against_nobody() -> None:
    answers, gold = answered(60, 20)
    answers[0] = [Answer(person, Tier.ANNOTATE, "place") for person in SKILLS]
    wrong = estimate_crowd(answers, gold | {0: "food"}, LABELS, TIERS)
    without = estimate_crowd({task: given for task, given in answers.items() if task}, gold, LABELS, TIERS)
    assert wrong.disputed == {0: "place"}
    assert wrong.accuracy["careful"] == pytest.approx(without.accuracy["careful"], abs=0.01)


def test_two_answers_do_not_overthrow_a_gold_label() -> None:
    answers = {0: [Answer(person, Tier.ANNOTATE, "place") for person in ("a", "b")]}
    crowd = estimate_crowd(answers, {0: "food"}, LABELS, TIERS)
    assert crowd.disputed == {}
    assert crowd.accuracy["a"] < 0.8
