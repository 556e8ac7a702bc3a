from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.experiments.exposures import ExperimentError
from monitoring.policies import Rule, each_variant, logged, ranked
from tests.components.experiments.examples import experiment
from tests.monitoring.examples import row, running


def request(number: int, variant: str, length: int = 9, **changes: Any) -> dict[str, Any]:
    return row(f"r{number}", variant=variant, prompt_length=length, like=None, user_key=f"u{number % 7}") | changes


def test_finished_requests_inside_are_the_decisions() -> None:
    rows = [
        request(1, "treatment", 4, like=1.0),
        request(2, "control"),
        request(8, "control", like=1.0),  # of the first one's user
        running("r3", prompt_length=None, like=None),
        request(4, "", experiment=""),  # before its user entered
        request(5, "gone"),
    ]
    log, lengths = logged(experiment(), rows)
    assert (log.action.tolist(), log.reward.tolist(), lengths.tolist()) == ([0, 1, 1], [1.0, 0.0, 1.0], [4, 9, 9])
    assert log.user.tolist() == [0, 1, 0]
    assert log.context[:, 0] == pytest.approx(np.log([5, 10, 10]))


def test_the_first_rule_that_fits_decides() -> None:
    rng, rows = np.random.default_rng(0), []
    for i in range(600):
        variant, length = ("control", "treatment")[rng.integers(2)], int(rng.choice([5, 15, 25]))
        right = (variant == "treatment") == (length == 15)  # treatment pleases where prompts are of middle length
        rows.append(request(i, variant, length, like=float(right), user_key=f"u{i}"))
    middle = [
        Rule(max_characters=10, weights={"control": 1.0}),
        Rule(max_characters=20, weights={"treatment": 1.0}),
        Rule(weights={"control": 1.0}),
    ]
    values, refused = ranked(experiment(), rows, {"middle": middle, **each_variant(experiment())})
    assert [name for name, _ in values] == ["middle", "control", "treatment"] and not refused
    assert values[0][1].snips.value == 1.0


def test_without_a_request_there_is_nothing_to_replay() -> None:
    with pytest.raises(ExperimentError, match="at least 1"):
        ranked(experiment(), [], each_variant(experiment()))
