from __future__ import annotations

import numpy as np
import pytest

from components.experiments.exposures import Seen, User
from components.experiments.guardrails import Guard, guard

WEIGHTS = {"control": 0.5, "treatment": 0.5}


def watched(control: float, treatment: float, users: int = 1500, seed: int = 0, margin: float = 0.05) -> Guard:
    """A guardrail that these shares of each variant's users break, after so many users."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(users):
        variant, rate = ("treatment", treatment) if rng.random() < 0.5 else ("control", control)
        broke = (float(rng.random() < rate), 1)
        rows.append(User(float(i), variant, WEIGHTS, inside={variant: Seen(1, {"slow": broke})}))
    return guard(rows, WEIGHTS, {"slow": margin}, alpha=0.05)[0]


@pytest.mark.parametrize(
    ("control", "treatment", "status"), [(0.05, 0.25, "harm"), (0.05, 0.05, "safe"), (0.25, 0.05, "safe")]
)
def test_harm_beyond_the_margin_is_told_from_none(control: float, treatment: float, status: str) -> None:
    assert watched(control, treatment).status == status


def test_worse_by_less_than_the_margin_is_no_harm() -> None:
    assert watched(0.05, 0.08, margin=0.1).status == "safe"
    assert watched(0.05, 0.25, users=20).status == "undecided"


def test_at_the_margin_itself_alarms_are_rarer_than_alpha() -> None:
    assert sum(watched(0.05, 0.10, users=600, seed=seed).status == "harm" for seed in range(100)) <= 5


def test_a_guardrail_nobody_measured_is_undecided() -> None:
    rows = [User(0.0, "control", WEIGHTS)]
    found = guard(rows, WEIGHTS, {"slow": 0.05}, alpha=0.05)[0]
    assert (found.status, found.bounds) == ("undecided", (-1.0, 1.0))
