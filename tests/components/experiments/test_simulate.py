from __future__ import annotations

import numpy as np
import pytest

from components.experiments.plan import fixed_horizon
from tests.components.experiments.simulate import Returning, fixed_horizon_mean, returning, stream, users_to_decision


@pytest.mark.parametrize("lift", [0.4, -0.4])
@pytest.mark.parametrize("requests", [1, 3])
def test_a_stream_has_the_promised_rates(lift: float, requests: int) -> None:
    users = stream(0.3, lift, 60_000, (1, 0), requests)
    assert users.outcomes[~users.treated].mean() == pytest.approx(0.3, abs=0.01)
    assert users.outcomes[users.treated].mean() == pytest.approx(0.3 * (1 + lift), abs=0.01)
    assert users.before.mean() == pytest.approx(0.3, abs=0.01)


def test_06_what_returning_users_did_within_their_window_is_the_same_on_every_later_day() -> None:
    users = returning(0.3, 300, 10, 7, (3, 0))
    short = Returning(users.joined, users.treated, users.liked[:, :7], users.heard[:, :7])
    earlier, later = short.effects(window=3), users.effects(window=3)
    assert 0 < earlier.size < later.size and np.array_equal(earlier, later[: earlier.size])
    assert users.so_far(8).size == users.so_far(10).size and not np.array_equal(users.so_far(8), users.so_far(10))


def test_a_decision_falls_on_a_look() -> None:
    x = stream(0.3, 1.0, 2000, (2, 0)).effects(cuped=False)
    assert users_to_decision(x, 0.05, 70) % 70 == 0
    assert users_to_decision(x[:5], 0.05, 70) == np.inf


def test_both_fixed_horizons_agree_on_yes_or_no() -> None:
    assert fixed_horizon(0.3, 0.15, 0.8, 0.05) == pytest.approx(fixed_horizon_mean(0.045, 0.4674, 0.8, 0.05), rel=0.01)
