from __future__ import annotations

from typing import Any

import pytest

from components.config import Guardrails
from monitoring.outcomes import breaches, experiment_result, exposures, pasts
from tests.components.experiments.examples import experiment
from tests.monitoring.examples import like, row, running


def test_a_request_is_liked_by_its_own_user_and_their_last_word_counts() -> None:
    requests = [row("a"), row("b"), row("c"), row("d"), row("other", experiment="")]
    feedback = [like("a"), like("b", at=1.0), like("b", 0.0, at=2.0), like("c", user="stranger"), like("other")]
    assert [exposure.value for exposure in exposures(experiment(), requests, feedback)] == [1.0, 0.0, 0.0, 0.0]


LIMITS = Guardrails(slo_s=2.0, slow=0.05, failed=0.02, refused=0.02)


@pytest.mark.parametrize(
    ("request_row", "broken"),
    [
        (row("a"), set()),
        (row("a", latency_s=2.1), {"slow"}),
        (row("a", outcome="error", output=""), {"failed"}),
        (row("a", output=" \n"), {"refused"}),
        (row("a", outcome="cancelled", output="", latency_s=9.0), {"slow"}),
        (running("a", time=99.0), set()),
        (running("a", time=90.0), {"slow"}),
    ],
)
def test_a_guardrail_is_broken_by_what_its_name_says(request_row: dict[str, Any], broken: set[str]) -> None:
    found = breaches(LIMITS, request_row, now=100.0)
    assert {name for name, broke in found.items() if broke} == broken


def test_a_past_is_what_a_user_liked_on_the_line_before_they_entered() -> None:
    asked = [row("a", time=1.0), row("b", time=2.0), row("c", time=3.0), row("d", time=4.0, line="image")]
    past = [request | {"experiment": ""} for request in asked]
    inside, newcomer = row("in", time=10.0), row("new", time=11.0, user_key="newcomer")
    later = row("after", time=12.0, experiment="")
    feedback = [like("a", at=5.0), like("b", at=11.0), like("d", at=5.0), like("in", at=13.0)]
    found = pasts(experiment(), [*past, inside, newcomer, later], feedback)
    assert found == {"u": pytest.approx(1 / 3)}


def test_the_metric_of_the_parameters_decides_and_its_name_is_in_the_reason() -> None:
    dwelling = experiment().model_copy(update={"metric": "dwell", "dwell_cap_s": 60.0})
    requests = [row(f"r{i}", user_key=f"u{i}", variant=("control", "treatment")[i % 2], time=i) for i in range(400)]
    feedback = [
        like(f"r{i}", 50.0 if i % 2 else 5.0, user=f"u{i}", at=500.0) | {"kind": "dwell"} for i in range(400)
    ] + [like(f"r{i}", 1.0, user=f"u{i}") for i in range(0, 400, 2)]  # liked more, and left sooner
    result = experiment_result(dwelling, requests, feedback, 1000.0)
    assert result.verdict == "treatment better" and "looked at longer than control" in result.reason
    assert experiment_result(experiment(), requests, feedback, 1000.0).verdict == "control better"
