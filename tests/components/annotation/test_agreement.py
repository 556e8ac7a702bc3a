"""Against published worked examples where there are some, and against people whose skill is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from components.annotation.agreement import Given, accuracy, alpha, curve, fleiss, pairs, suspects

LABELS = ("animal", "face", "food")


def crowd(skills: dict[str, float], tasks: int = 300, seed: int = 7) -> tuple[Given, list[str]]:
    """Everybody's answers; food is taken for a face, any other mistake is even."""
    rng = np.random.default_rng(seed)
    truth = [LABELS[i] for i in rng.integers(3, size=tasks)]

    def say(label: str, skill: float) -> str:
        others = ["face"] if label == "food" else [other for other in LABELS if other != label]
        return label if rng.random() < skill else str(rng.choice(others))

    return {i: [(who, say(label, skill)) for who, skill in skills.items()] for i, label in enumerate(truth)}, truth


def test_alpha_is_that_of_krippendorffs_binary_example() -> None:
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), part A: two observers, ten units, 0.095."""
    one, other = "0100000000", "1110010010"
    given = {i: [("a", LABELS[int(x)]), ("b", LABELS[int(y)])] for i, (x, y) in enumerate(zip(one, other, strict=True))}
    found = alpha(given, LABELS)
    assert found
    assert found.value == pytest.approx(0.095, abs=0.001)
    assert found.low < found.value < found.high


def test_alpha_needs_a_common_task_and_two_labels() -> None:
    assert alpha({1: [("a", "food")], 2: [("b", "food")]}, LABELS) is None
    assert alpha({1: [("a", "food"), ("b", "food")]}, LABELS) is None  # one label only: nothing to agree beyond chance


def test_kappas_of_people_who_know_and_who_guess() -> None:
    given, _ = crowd({"knows": 1.0, "knows too": 1.0, "guesses": 1 / 3})
    worst = pairs(given)
    assert [pair.kappa > 0.9 for pair in worst] == [False, False, True]
    assert abs(worst[0].kappa) < 0.15
    assert worst[0].mixed_up == "face and food"
    found = fleiss(given, LABELS, 3)
    assert found
    assert (0 < found[0] < 0.6, found[1]) == (True, 300)
    assert fleiss(given, LABELS, 2) is None and fleiss({1: [("a", "food")]}, LABELS, 1) is None
    assert pairs({1: [("a", "food"), ("b", "food")]}) == []


def test_drift_is_a_fall_that_chance_does_not_explain() -> None:
    rng = np.random.default_rng(7)
    steady = rng.random(200) < 0.9
    tired = np.concatenate([steady[:170], rng.random(30) < 0.5])
    times = [float(i) for i in range(200)]
    falls = curve(tired.tolist(), times, people=10)
    stays = curve(steady.tolist(), times, people=10)
    assert falls and stays
    assert (falls.drifts, stays.drifts) == (True, False)
    assert falls.times[-1] == 170.0
    assert falls.right[-1] < 0.7 < falls.right[0]
    assert curve(steady[:40].tolist(), times, people=10) is None
    alarms = [curve((rng.random(200) < 0.85).tolist(), times, people=10) for _ in range(200)]
    assert sum(bool(found and found.drifts) for found in alarms) <= 2


def test_an_accuracy_on_few_answers_says_how_little_that_is() -> None:
    found = accuracy(9, 10)
    assert (found.value, found.low < 0.6, found.high > 0.98) == (0.9, True, True)


def test_confident_learning_finds_planted_errors_in_real_pictures() -> None:
    pictures, digits = load_digits(return_X_y=True)
    rng = np.random.default_rng(7)
    wrong = rng.choice(len(digits), 60, replace=False)
    planted = digits.copy()
    planted[wrong] = (planted[wrong] + rng.integers(1, 10, size=60)) % 10
    model = LogisticRegression(max_iter=200)
    probable = cross_val_predict(model, pictures / 16, planted, method="predict_proba", cv=5)
    names = [str(i) for i in range(10)]
    found = suspects([str(i) for i in planted], probable, names)
    top = found[:60]
    assert sum(i in wrong for i, *_ in top) > 40  # 2 would be by chance
    assert all(names[digits[i]] == likelier for i, likelier, _ in top[:20])
    assert top[0][2] <= top[-1][2]
