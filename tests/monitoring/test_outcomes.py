from __future__ import annotations

from typing import Any

import pytest

from components.config import Guardrails
from components.events.schema import KINDS
from monitoring.outcomes import breaches, exposures, scaled
from tests.components.experiments.examples import analysed, experiment
from tests.monitoring.examples import row, running

LIMITS = Guardrails(slo_s=2.0, slow=0.05, failed=0.02, refused=0.02)


@pytest.mark.parametrize(
    ("request_row", "broken"),
    [
        (row("a"), set()),
        (row("a", latency_s=2.1), {"slow"}),
        (row("a", outcome="error", output=""), {"failed"}),
        (row("a", output=" \n"), {"refused"}),
        (row("a", output=" \n", cut=True), set()),  # at its client's own bound
        (row("a", outcome="cancelled", output="", latency_s=9.0), {"slow"}),
        (running("a", time=107.0), {"slow"}),
        (running("a", time=109.0), set()),
        (row("a", time=109.0), set()),  # it could not have been found slow, so that it says nothing of slowness
    ],
)
def test_a_guardrail_is_broken_by_what_its_name_says(request_row: dict[str, Any], broken: set[str]) -> None:
    found = breaches(LIMITS, {"closes": 110.0} | request_row)
    assert {name for name, broke in found.items() if broke} == broken
    assert ("slow" in found) == (request_row["time"] < 108.0)


def test_09_a_request_that_its_user_gave_up_before_it_was_slow_says_nothing() -> None:
    left = row("a", outcome="cancelled", output="", latency_s=1.0, closes=110.0)
    assert breaches(LIMITS, left) == {}
    assert breaches(LIMITS, left | {"latency_s": 2.1}) == {"slow": True}
    assert breaches(LIMITS, left | {"outcome": "lost", "latency_s": 0.0}) == {}  # its gateway died


@pytest.mark.parametrize(("value", "share"), [(None, 0.0), (30.0, 0.25), (120.0, 1.0), (86_400.0, 1.0), (-5.0, 0.0)])
def test_dwell_is_capped(value: float | None, share: float) -> None:
    assert scaled("dwell", value, 120.0) == share


def test_the_metric_of_the_parameters_decides_and_its_name_is_in_the_reason() -> None:
    dwelling = experiment().model_copy(update={"metric": "dwell", "dwell_cap_s": 60.0})
    unsaid = dict.fromkeys(KINDS) | {"segments": "{}"}
    requests = []
    for i in range(400):  # control is liked more, and left sooner
        variant, said = ("control", "treatment")[i % 2], {"dwell": 50.0 if i % 2 else 5.0, "like": float(i % 2 == 0)}
        requests.append(row(f"r{i}", user_key=f"u{i}", variant=variant, time=i) | unsaid | said)
    result = analysed(dwelling, exposures(dwelling, requests))
    assert result.words == "treatment better" and "looked at longer than control" in result.reason
    assert analysed(experiment(), exposures(experiment(), requests)).words == "control better"
