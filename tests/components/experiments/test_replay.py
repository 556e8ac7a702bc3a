from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from components.experiments.exposures import ExperimentError
from components.experiments.replay import Log, OverlapError, evaluate, rank

Floats = NDArray[np.float64]
RATES = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.3]])  # of reward, by kind of context and action


def logged(seed: int, n: int = 3000, behaviour: tuple[float, ...] = (0.6, 0.3, 0.1)) -> Log:
    """Decisions of a policy that ignores the context, three to a user."""
    rng = np.random.default_rng(seed)
    kind, action = rng.integers(2, size=n), rng.choice(3, size=n, p=behaviour)
    reward = (rng.random(n) < RATES[kind, action]).astype(float)
    return Log(kind[:, None].astype(float), action, np.array(behaviour)[action], reward, np.arange(n) // 3)


def fitting(log: Log) -> Floats:
    """The policy that takes the better of the first two actions in every context; its value is 0.55."""
    kind = log.context[:, 0].astype(int)
    return np.eye(3)[np.where(kind == 0, 1, 0)]


def test_both_estimates_find_the_value_of_a_policy_that_never_ran() -> None:
    value = evaluate(logged(0), fitting(logged(0)))
    for estimate in (value.snips, value.doubly_robust):
        assert estimate.interval[0] < 0.55 < estimate.interval[1]
    assert 1000 < value.effective < 1500
    widths = [high - low for low, high in (value.snips.interval, value.doubly_robust.interval)]
    assert widths[1] < widths[0]  # the model of rewards takes out what the context explains


def test_intervals_cover_at_their_level() -> None:
    values = [evaluate(log, fitting(log)) for log in (logged(seed, n=900) for seed in range(200))]
    for name in ("snips", "doubly_robust"):
        covered = sum(getattr(v, name).interval[0] < 0.55 < getattr(v, name).interval[1] for v in values)
        assert 180 <= covered <= 198


def test_the_logged_policy_itself_is_worth_what_it_earned() -> None:
    log = logged(1)
    value = evaluate(log, np.tile([0.6, 0.3, 0.1], (3000, 1)))
    assert value.snips.value == pytest.approx(log.reward.mean())
    assert value.effective == pytest.approx(3000)


def test_candidates_are_ranked_and_what_cannot_be_valued_is_refused_with_its_reason() -> None:
    log = logged(2, behaviour=(0.6, 0.4, 0.0))
    always = {f"always {k}": np.tile(np.eye(3)[k], (3000, 1)) for k in range(3)}
    ranked, refused = rank(log, always | {"fitting": fitting(log)})
    assert ranked[0][0] == "fitting"
    assert refused == {"always 2": "the policy takes actions [2], which were never logged"}


def test_an_action_missing_in_some_contexts_is_noticed() -> None:
    log = logged(3)
    kept = (log.context[:, 0] == 1) | (log.action != 1)
    holed = Log(*(column[kept] for column in (log.context, log.action, log.propensity, log.reward, log.user)))
    with pytest.raises(OverlapError, match="weights average"):
        evaluate(holed, fitting(holed))


def test_a_handful_of_matching_decisions_is_not_enough() -> None:
    log = logged(4, n=120)
    with pytest.raises(OverlapError, match="30 are needed"):
        evaluate(log, np.tile([0.0, 0.0, 1.0], (120, 1)))


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, float("nan")])
def test_an_impossible_propensity_is_refused(bad: float) -> None:
    log = logged(5, n=10)
    with pytest.raises(ExperimentError, match="propensities must lie in"):
        replace(log, propensity=np.where(np.arange(10) == 3, bad, log.propensity))


def test_rewards_that_are_no_numbers_and_policies_that_are_none_are_refused() -> None:
    log = logged(6, n=10)
    with pytest.raises(ExperimentError, match="not NaN"):
        replace(log, reward=np.full(10, np.nan))
    with pytest.raises(ExperimentError, match="sum to 1"):
        evaluate(log, np.full((10, 3), 0.5))
