from __future__ import annotations

import numpy as np

from components.config import Experiment, Guardrails, Variant
from components.experiments.exposures import Exposure
from tests.components.experiments.examples import analysed

ARMS = ("control", "b", "c", "d")


def four_arms(guardrails: Guardrails | None = None) -> Experiment:
    variants = {name: Variant(weight=0.25, temperature=0.7) for name in ARMS}
    given = {"salt": "s", "variants": variants, "alpha": 0.05, "srm_alpha": 0.001, "guardrails": guardrails}
    return Experiment(name="four", line="text", **given)  # type: ignore[arg-type]


def audience(seed: int, users: int, slow: float = 0.0, **rates: float) -> list[Exposure]:
    """One request of each user; variants not named are liked by 30 %, variant `c` is slow that often."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(users):
        arm = ARMS[rng.integers(4)]
        liked, breach = rng.random(2) < (rates.get(arm, 0.3), slow if arm == "c" else 0.0)
        rows.append(Exposure(str(i), float(i), arm, 0.25, {"like": float(liked), "slow": float(breach)}))
    return rows


def test_the_better_of_three_treatments_is_found_and_all_are_shown() -> None:
    result = analysed(four_arms(), audience(1, 2000, c=0.6))
    assert result.words == "c better"
    assert result.treatment == "c"
    assert [c.treatment for c in result.comparisons] == ["b", "c", "d"]
    assert len(result.arms) == 4


def test_control_wins_only_over_all() -> None:
    assert analysed(four_arms(), audience(2, 2500, b=0.02, c=0.02, d=0.02)).words == "control better"
    assert analysed(four_arms(), audience(2, 2500, b=0.02, c=0.02)).verdict == "inconclusive"


def test_any_false_winner_among_three_is_rare() -> None:
    false = sum(analysed(four_arms(), audience(seed, 400)).verdict != "inconclusive" for seed in range(60))
    assert false <= 5


def test_a_winner_that_breaks_a_guardrail_does_not_win() -> None:
    watched = four_arms(Guardrails(slo_s=1.0, slow=0.05, failed=0.02, refused=0.02))
    harmful = analysed(watched, audience(3, 2000, slow=0.5, c=0.6))
    assert harmful.words == "c harmful"
    assert "slow beyond the margin of 5 points" in harmful.reason
    assert [g.status for g in harmful.guards if g.guardrail == "slow"] == ["safe", "harm", "safe"]
    assert analysed(watched, audience(3, 2000, slow=0.5, b=0.6, c=0.6)).words == "b better"


def test_a_variant_without_users_is_pointed_out() -> None:
    rows = [row for row in audience(4, 30) if row.variant != "d"]
    assert "No user has seen d yet." in analysed(four_arms(), rows).notes


def test_a_known_past_explains_variance() -> None:
    rng = np.random.default_rng(5)
    taste = rng.random(600)
    rows, pasts = [], []
    for i in range(600):
        rows.append(Exposure(str(i), float(i), ARMS[rng.integers(4)], 0.25, {"like": float(rng.random() < taste[i])}))
        pasts.append(Exposure(str(i), -1.0, "", 1.0, {"like": taste[i]}, past=True))
    assert all(c.explained > 0.15 for c in analysed(four_arms(), [*pasts, *rows]).comparisons)
    assert all(c.explained == 0 for c in analysed(four_arms(), rows).comparisons)
