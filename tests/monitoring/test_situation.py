from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.probes import Metrics
from monitoring.situation import OBJECTIVES, Objective, from_metrics
from tests.infra.prometheus.test_rules import CONFIGURATION
from tests.monitoring.test_concerns import EMPTY, LINE, PLACE, PLAN, STANDING


@pytest.mark.parametrize(("name", "rule", "allowed"), OBJECTIVES)
def test_objectives_are_those_that_alerts_are_for(name: str, rule: str, allowed: float) -> None:
    assert f"line:atelier_{rule}:ratio_rate3d > {allowed:g} and" in (CONFIGURATION / "alerts.yml").read_text()


def test_prometheus_numbers_become_an_hour_s_requests_and_what_is_left_of_three_days_budget() -> None:
    rules = {"answers:rate1h": 0.5, "failed:ratio_rate1h": 0.02, "failed:ratio_rate3d": 0.0025}
    rules |= {"slow:ratio_rate3d": 0.06, "request_seconds:p95_5m": 1.5}
    numbers = from_metrics(Metrics({(f"line:atelier_{name}", "text"): v for name, v in rules.items()}, {}, []), "text")
    assert numbers is not None
    assert (numbers.requests, numbers.failed, numbers.p95) == (1800, 36, 1.5)
    answered, in_time = numbers.objectives
    assert answered == Objective("answered", 0.99, 0.75, 2.0)
    assert (in_time.left, in_time.burn) == (pytest.approx(-0.2), None)
    assert from_metrics(Metrics({}, {}, []), "text") is None


def test_a_place_s_role_is_that_of_the_deployment_it_says_it_serves() -> None:
    trial = replace(LINE, standing=replace(STANDING, plan=replace(PLAN, candidate="text-2", share=0.05)))
    other = replace(EMPTY, problem="", answer="text-2")
    assert [trial.role(place) for place in (PLACE, other, EMPTY)] == ["champion", "candidate", ""]
    assert (LINE.role(other), trial.nowhere("candidate"), LINE.nowhere("candidate")) == ("other", "text-2", None)
