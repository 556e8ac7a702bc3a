"""The report says what a lead must know of a project whose people and truths are known, and of an empty one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from components.annotation.agreement import pairs
from components.annotation.crowd import unknown_crowd
from components.annotation.quality import Report, Suspicion, doubts_of_a_model, first_answers, report
from components.annotation.task_store import Move, RecordedAnswer, Task
from components.annotation.workflow import MoveKind, State, Tier
from tests.bench.tiers_simulate import World
from tests.bench.tiers_simulate import _Run as Run
from tests.components.annotation.examples import LABELS, PROJECT, TIERS

SKILLS = {"1": 0.95, "2": 0.85, "3": 0.25, "4": 0.9}
TASKS, GOLD = 240, 30


def rows(seed: int = 7) -> tuple[list[Task], dict[int, list[RecordedAnswer]], list[Move]]:
    """Four people answer everything; `3` guesses, `4` tires in the end; two settled labels and one gold are wrong."""
    rng = np.random.default_rng(seed)
    tasks, records = [], {}
    for number in range(TASKS):
        truth = LABELS[int(rng.integers(4))]
        wrong = LABELS[(LABELS.index(truth) + 1) % 4]
        known = wrong if number in (0, 100, 101) else truth
        gold, state = (known, State.ANNOTATE) if number < GOLD else ("", State.DONE)
        tasks.append(Task(number, PROJECT, f"s{number}", gold, state, "" if gold else known, 3, 0.0))
        for place, (person, skill) in enumerate(SKILLS.items()):
            if person == "4" and number >= TASKS - 40:
                skill = 0.4
            right = rng.random() < skill or number in (0, 100, 101)
            label = truth if right else LABELS[int(rng.integers(4))]
            given = RecordedAnswer(
                4 * number + place, number, Tier.ANNOTATE, person, label, "", number, None, None, None, ""
            )
            records.setdefault(number, []).append(given)
    records[50].append(replace(records[50][0], number=10_000, ended=1.0, ended_why="edited"))
    move = Move(5, 2, State.ANNOTATE, State.DONE, MoveKind.AGREE, "food", 9.0, "1", "certain")
    return tasks, records, [move]


def build(suspicions: tuple[Suspicion, ...] = ()) -> Report:
    return report(PROJECT, *rows(), TIERS.model_copy(update={"first": 4}), 1e9, suspicions)


def test_it_names_who_guesses_who_tires_and_what_is_wrong() -> None:
    found = build((Suspicion("s7", "food", "face", 0.5, "a model"),))
    assert found.people[0].name == "3"
    people = {person.name: person for person in found.people}
    assert [people[name].unfit for name in "1234"] == [False, False, True, False]
    assert [bool(people[name].curve and people[name].curve.drifts) for name in "1234"] == [False, False, False, True]
    assert people["1"].gold and people["1"].gold.value > 0.85 > 0.6 > people["3"].gold.value  # type: ignore[union-attr]
    assert [(s.sample, s.label == s.likelier) for s in found.disputed_gold] == [("s0", False)]
    assert {"s100", "s101"} <= {s.sample for s in found.suspicions if s.by == "the answers"}
    assert found.suspicions[-1].by == "a model"
    assert found.alpha and 0.2 < found.alpha.low < found.alpha.value < found.alpha.high < 0.9
    assert "3" in found.pairs[0].people
    assert all(abs(sum(row) - 1) < 0.01 for row in found.confusion_CC)


def test_every_answer_is_a_cost_also_the_replaced_ones_and_gold() -> None:
    found = build()
    assert found.cost == {"annotate": 4 * (TASKS - GOLD) + 1, "review": 0, "arbitrate": 0, "gold": 4 * GOLD}
    assert found.states["done"] == TASKS - GOLD
    assert found.moves[0][0] == "s5"


def test_a_project_without_answers_has_a_report_too() -> None:
    found = report(PROJECT, rows()[0][GOLD:31], {}, [], TIERS, 1e9)
    assert (found.alpha, found.fleiss, found.people, found.confusion_CC) == (None, None, (), ())


def test_12_agreement_is_that_of_all_tasks_and_not_of_those_that_agreement_has_settled() -> None:
    run = Run(
        World(labels=4, items=600, annotators=5), TIERS.model_copy(update={"certain": 0.9}), np.random.default_rng(7)
    )
    crowd = unknown_crowd(run.names, TIERS)
    tasks, recorded = [], {}
    for item in range(600):
        label = run.label(item, crowd, set())
        tasks.append(Task(item, PROJECT, f"s{item}", "", State.DONE, label, 2, 0.0))
        answers = run.answers[item][: 1 if item % 10 == 0 else None]  # some still wait for their second answer
        recorded[item] = [
            RecordedAnswer(10 * item + place, item, a.tier, a.person, a.label, "", float(item), None, None, None, "")
            for place, a in enumerate(answers)
        ]
    found = report(PROJECT, tasks, recorded, [], run.tiers, 1e9)
    both = [run.rng.choice(run.people[Tier.ANNOTATE], 2, replace=False) for _ in tasks]
    said = [
        [run.say(str(who), int(truth), False) for who in pair] for pair, truth in zip(both, run.truth_I, strict=True)
    ]
    table, _ = aggregate_raters(np.array([[run.names.index(label) for label in pair] for pair in said]), n_cat=4)
    true = fleiss_kappa(table)
    assert found.fleiss and found.alpha
    assert (found.fleiss[0], found.alpha.value) == (pytest.approx(true, abs=0.08), pytest.approx(true, abs=0.08))
    assert np.mean([pair.kappa for pair in pairs(first_answers(recorded, 2))]) == pytest.approx(true, abs=0.08)
    alone = [[*first_answers(recorded, 9)[task.task]] for task in tasks]
    settled = [[run.names.index(label) for _, label in given] for given in alone if len(given) == 2]
    assert fleiss_kappa(aggregate_raters(np.array(settled), n_cat=4)[0]) > 0.99 > true + 0.2  # what choosing would say


def test_a_model_doubts_the_label_that_does_not_fit_its_sample() -> None:
    rng = np.random.default_rng(7)
    truth = ["food", "face"] * 20
    vectors = np.array([[1.0, 0.0] if label == "food" else [0.0, 1.0] for label in truth]) + rng.normal(0, 0.1, (40, 2))
    labels = ["face", *truth[1:]]
    tasks = [Task(i, PROJECT, f"s{i}", "", State.DONE, label, 2, 0.0) for i, label in enumerate(labels)]
    (doubt,) = doubts_of_a_model(tasks, vectors)
    assert (doubt.sample, doubt.label, doubt.likelier) == ("s0", "face", "food")
    assert doubts_of_a_model(tasks[:4], vectors[:4]) == []
