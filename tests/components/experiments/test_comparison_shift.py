"""What was better and turned worse is found soon, and where nothing turns a year passes without a word."""

from __future__ import annotations

import numpy as np
import pytest

from components.config import Guardrails
from components.experiments.comparison import DAY_S, DAYS, Floats, Verdict, exceeding, log_detector, shift
from components.experiments.exposures import Seen, User
from components.experiments.statistics import Analysis, analyse
from tests.components.experiments.examples import experiment
from tests.components.experiments.simulate import turning

ALPHA = 0.05
Phases = list[tuple[int, float]]  # so many users, of whom treatment likes so much more


def numbers(seed: int, phases: Phases, share: float) -> Floats:
    return turning(phases, 0.4, share, (7, seed))


@pytest.mark.parametrize(
    ("phases", "share", "users"),
    [
        ([(20_000, 0.1), (60_000, -0.2)], 0.9, 2000),  # an adapter that is kept
        ([(3_000, 0.1), (30_000, -0.1)], 0.5, 2500),  # a novelty that wears off
    ],
)
def test_07_what_was_better_is_found_worse_within_so_many_users(phases: Phases, share: float, users: int) -> None:
    """200 users a day; how long the good time was does not matter."""
    before, late = phases[0][0], []
    for seed in range(5):
        x = numbers(seed, phases, share)
        begins = np.arange(x.size) % 200 == 0
        worse = log_detector(-x, 0.0, 1 / (1 - share), begins) >= np.log(DAYS / (ALPHA / 2))
        late.append(np.flatnonzero(worse)[0] - before)
    assert min(late) > 0 and np.median(late) < users


def test_07_without_an_effect_a_year_of_looks_after_every_user_seldom_says_that_there_is() -> None:
    begins = np.arange(DAYS * 20) % 20 == 0
    threshold = np.log(DAYS / (ALPHA / 2))
    wrong = 0
    for seed in range(100):
        x = numbers(seed, [(DAYS * 20, 0.0)], 0.5)
        wrong += any(log_detector(side, 0.0, 2.0, begins).max() >= threshold for side in (x, -x))
    assert wrong <= 100 * ALPHA


def test_it_tells_since_when_of_how_many_and_how_much() -> None:
    x, times = numbers(1, [(4000, 0.1), (6000, -0.2)], 0.5), np.arange(10_000) * DAY_S / 200
    found = shift(x, 2.0, times, ALPHA)
    assert found is not None
    assert abs(found.since - 20 * DAY_S) <= 2 * DAY_S and abs(found.users - 6000) <= 400
    assert found.mean == pytest.approx(-0.2, abs=0.05)
    before = shift(x[:4000], 2.0, times[:4000], ALPHA)
    assert before is not None and before.mean == pytest.approx(0.1, abs=0.05)
    assert shift(x[:0], 2.0, times[:0], ALPHA) is None
    assert exceeding(x[:4000], 0.2, 2.0, times[:4000], ALPHA) is None


def said(phases: Phases, measure: str = "like") -> Analysis:
    """Of 200 users a day, half of them treated."""
    rng, users = np.random.default_rng(3), list[User]()
    weights = experiment().weights
    for count, lift in phases:
        for _ in range(count):
            variant = ("control", "treatment")[rng.integers(2)]
            values = dict.fromkeys(("like", "slow", "failed", "refused"), (0.0, 1))
            values[measure] = (float(rng.random() < 0.4 + lift * (variant == "treatment")), 1)
            seen = {variant: Seen(1, values)}
            users.append(User(len(users) * DAY_S / 200, variant, weights, inside=seen))
    limits = Guardrails(slo_s=1.0, slow=0.05, failed=0.02, refused=0.02)
    return analyse(experiment().model_copy(update={"guardrails": limits}), users)


def test_07_an_experiment_whose_effect_turned_says_so_and_since_when() -> None:
    assert said([(3000, 0.1)]).verdict is Verdict.BETTER
    assert said([(3000, -0.1)]).words == "control better"  # from the beginning: nothing changed
    turned = said([(3000, 0.1), (6000, -0.1)])
    assert (turned.verdict, turned.words) == (Verdict.CHANGED, "the effect of treatment changed")
    assert (
        turned.reason.startswith("Since 1970-01-") and "control is liked more than treatment, by the " in turned.reason
    )
    assert turned.interval[0] < turned.interval[1]


def test_07_what_was_safe_for_long_and_turns_harmful_is_found() -> None:
    safe = said([(4000, 0.0)], "slow")
    assert [g.status for g in safe.guards if g.guardrail == "slow"] == ["safe"]
    turned = said([(4000, 0.0), (2500, 0.2)], "slow")
    assert turned.verdict is Verdict.HARMFUL and turned.words == "treatment harmful"
