from __future__ import annotations

import numpy as np
import pytest

from components.experiments.plan import decisions, main, plan
from components.stage import StageError
from tests.components.experiments.simulate import stream, users_to_decision


def test_the_fixed_horizon_is_the_textbooks_and_the_always_valid_one_pays_for_its_looks() -> None:
    planned = plan(rate=0.3, lift=0.15)
    assert planned.fixed == 3384  # 16 p(1 - p) / d^2 per variant, nearly
    assert planned.fixed < planned.horizon < 2.5 * planned.fixed
    assert planned.median < planned.horizon


def test_counting_kinds_of_users_agrees_with_simulating_each() -> None:
    counted = decisions(0.3, 0.5, 4000, alpha=0.05)
    each = [users_to_decision(stream(0.3, 0.5, 4000, (1, i)).effects(False), 0.05, 10) for i in range(300)]
    assert np.median(counted) == pytest.approx(np.median(each), rel=0.12)


def test_equal_variants_are_decided_seldom() -> None:
    assert np.mean(np.isfinite(decisions(0.3, 0.0, 8000, alpha=0.05))) <= 0.05


def test_a_day_is_users_over_users_per_day(capsys: pytest.CaptureFixture[str]) -> None:
    main(rate=0.3, lift=0.15, users_per_day=500)
    assert "3,384" in (out := capsys.readouterr().out)
    assert "6.8" in out


@pytest.mark.parametrize(
    ("rate", "lift", "power"),
    [(0.0, 0.1, 0.8), (0.9, 0.2, 0.8), (0.3, 0.0, 0.8), (0.3, 0.1, 1.0), (float("nan"), 0.1, 0.8)],
)
def test_an_experiment_that_cannot_be_is_refused(rate: float, lift: float, power: float) -> None:
    with pytest.raises(StageError):
        plan(rate, lift, power)
